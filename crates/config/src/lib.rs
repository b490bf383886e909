//! The pipeline file: parse, validate, explain, estimate
