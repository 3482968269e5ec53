//! Ids, units, terms and the market file: plain data without input or output
