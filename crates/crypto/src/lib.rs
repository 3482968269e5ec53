//! Keys and sealing
