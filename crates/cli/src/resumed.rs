//! What an earlier command had sent and did not live to see.

use std::sync::PoisonError;

use roadstead_publisher::Ports;

use crate::output::Progress;

/// Says which transactions of an earlier process have come through with this one, as far as the command itself has not.
pub(crate) fn tell(ports: &Ports, progress: &Progress) {
    // A panic elsewhere leaves the list whole.
    let resumed =
        std::mem::take(&mut *ports.resumed.lock().unwrap_or_else(PoisonError::into_inner));
    for earlier in resumed.iter().filter(|earlier| earlier.took_effect) {
        progress.line(format!(
            "An earlier command was interrupted; its transaction has come through: {} {}",
            earlier.call, earlier.transaction
        ));
    }
}
