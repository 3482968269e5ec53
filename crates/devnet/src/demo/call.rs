//! Calling the service, as any client of it would.

use std::time::Duration;

use reqwest::{Client, redirect::Policy};
use serde::Serialize;
use tokio::time::sleep;

/// A service whose program has only just been started may not listen yet: the first pause before it is called again, and
/// the longest, up to which they double.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// For one attempt.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The most that is shown of an answer, in bytes.
const MAX_SHOWN: usize = 200;

/// What the service answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The beginning of the body, as text.
    pub beginning: String,
}

/// The service gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("the service could not be called")]
pub struct CallError(#[from] reqwest::Error);

/// Asks for `/` until something is answered. The caller limits how long.
pub async fn call(url: &str) -> Result<Answer, CallError> {
    let client = Client::builder().no_proxy().redirect(Policy::none()).timeout(TIMEOUT).build()?;
    let (mut pause, longest) = PAUSES;
    let mut response = loop {
        match client.get(url).send().await {
            Ok(response) => break response,
            Err(error) if error.is_connect() || error.is_request() => {
                sleep(pause).await;
                pause = pause.saturating_mul(2).min(longest);
            }
            Err(error) => return Err(error.into()),
        }
    };
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while body.len() < MAX_SHOWN {
        match response.chunk().await? {
            Some(chunk) => body.extend_from_slice(&chunk),
            None => break,
        }
    }
    body.truncate(MAX_SHOWN);
    Ok(Answer { status, beginning: String::from_utf8_lossy(&body).trim_end().to_owned() })
}
