//! How much a thread has executed, in gas, so that a batch that asks for too much can be stopped.
//!
//! A request is answered on one thread from start to end, so the thread is where its work adds up:
//! calls, mining and looks at the pending block alike.

use std::cell::Cell;

thread_local! {
    static SPENT: Cell<u64> = const { Cell::new(0) };
}

/// Says that this thread did work worth `gas`.
pub(crate) fn charge(gas: u64) {
    SPENT.with(|spent| spent.set(spent.get().wrapping_add(gas)));
}

/// What may be executed on this thread from now on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    start: u64,
    gas: u64,
}

impl Budget {
    /// A budget of which nothing is spent yet.
    pub(crate) fn new(gas: u64) -> Self {
        Self { start: SPENT.with(Cell::get), gas }
    }

    /// Whether no more than this was executed.
    pub(crate) fn is_left(&self) -> bool {
        SPENT.with(Cell::get).wrapping_sub(self.start) < self.gas
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_counts_what_comes_after_it() {
        charge(1_000);
        let budget = Budget::new(100);
        charge(99);
        assert!(budget.is_left());
        charge(1);
        assert!(!budget.is_left());
        assert!(Budget::new(100).is_left());
    }
}
