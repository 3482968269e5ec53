//! A local market, and the scenario of the demonstration
