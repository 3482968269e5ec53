//! An error with its causes, where only a text can be kept of it: a reason on the wire, a line in a log.

use std::error::Error;

/// The error and its causes on one line.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("nothing was kept")]
    struct Outer(#[source] std::fmt::Error);

    #[test]
    fn every_cause_is_named() {
        let text = format!("nothing was kept: {}", std::fmt::Error);
        assert_eq!(with_causes(&Outer(std::fmt::Error)), text);
    }
}
