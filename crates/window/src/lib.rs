//! Event time: watermarks, late data, tumbling and sliding windows over columns
