//! Content stores: the embedded one, its gateway, and others over the network.
