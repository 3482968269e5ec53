//! `roadstead providers`.

use std::path::PathBuf;

use super::Desk;
use crate::{
    daemon::Running,
    market::{offer, profile},
};

#[tokio::test(flavor = "multi_thread")]
async fn providers_are_listed_without_an_account_or_a_folder() {
    let desk = Desk::new().await;
    assert_eq!(desk.succeeds(&["providers"])["providers"], serde_json::json!([]));
    let text = String::from_utf8(desk.run(&["providers"]).stdout).unwrap();
    assert!(text.contains("Nobody is registered"), "{text}");

    // Registered, and nobody listens there.
    desk.market.register().await;
    let account = desk.market.local.provider.address();
    let listed = desk.succeeds(&["providers"]);
    let [absent] = &listed["providers"].as_array().unwrap()[..] else { panic!("{listed}") };
    let address = |text: &serde_json::Value| text.as_str().unwrap().parse();
    assert_eq!(address(&absent["provider"]), Ok(account));
    assert!(absent["profile"].is_null() && absent["trouble"].is_string(), "{absent}");

    let (daemon, server) = Running::listening(&desk.market, offer()).await;
    let listed = desk.succeeds(&["providers"]);
    let [found] = &listed["providers"].as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!(found["profile"], serde_json::to_value(profile()).unwrap());
    assert!(found["trouble"].is_null(), "{found}");
    let endpoint = found["endpoint"].as_str().unwrap();
    assert!(endpoint.contains(&server.addresses()[0].to_string()), "{endpoint}");
    let text = String::from_utf8(desk.run(&["providers"]).stdout).unwrap();
    // What a core costs for an hour, and a GiB of memory.
    for expected in [&account.to_string(), "test", "0.0036 RTD", "0.000003 RTD"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    daemon.stop().await;
    assert_eq!(desk.roadstead.files(), Vec::<PathBuf>::new());
}
