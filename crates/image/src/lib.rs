//! Reading, sealing, publishing and opening of OCI images.
