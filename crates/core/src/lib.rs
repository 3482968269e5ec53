//! Pure state machines, money arithmetic and the ports
