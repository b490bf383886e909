//! Telemetry as Arrow IPC: each record is one stream of record batches, each row of them a sample.
//!
//! | column | type | holds |
//! | --- | --- | --- |
//! | `ts` | timestamp of any unit, or int64 milliseconds | when it was measured |
//! | `metric` | text | what is measured |
//! | `value` | float64, float32, or an integer | what was measured; null where there is no value |
//! | `labels` | map of text to text | labels; optional |
//! | any other of text | text | a label of the column's name, less a leading `labels.`; null where a row is without it |
//!
//! *Text* is utf8, large utf8 or utf8 view, or a dictionary of one of these under integer keys, which is by far the
//! cheapest to send and to read: a name or label is then read once a dictionary and not once a row. Columns of other flat
//! types are passed over, as unknown fields of JSON are; nested ones other than the map are refused. A timestamp's fraction
//! of a millisecond is cut off. Time zones of timestamps don't matter: Arrow's are in UTC.
//!
//! The stream format is meant, not the file format, and without Arrow's own compression of buffers.
//!
//! A bad row is reported with its number, counted over all batches of the record, and the others stand; bytes that are no
//! stream fail as a whole, before which batches that came whole have been taken.
//!
//! **Cost.** A batch costs some tens of microseconds to open, so it should hold a thousand rows or more. A row of a series
//! that the sink knows costs one hash over its names' hashes and what the sink does.

mod decode;
mod encode;
mod labels;
mod point;
mod text;

pub use decode::Decoder;
pub use encode::{Encoder, Samples};
