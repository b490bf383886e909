//! Streaming detectors: calibrated scores with the band that was expected
