//! What runs the planes in a process: a pipeline file and what it refers to is loaded, its topics are made and examined, the
//! folds become planes of the runtime, and their figures are served.
//!
//! The program, the tests and the benchmarks use it alike. It reads files and the environment, and knows neither command lines
//! nor screens. Without its features it has no Kafka client, no object store and no SQL.

pub mod assign;
pub mod beside;
pub mod follow;
pub mod keys;
pub mod load;
pub mod metrics;
pub mod planes;
pub mod run;
pub mod status;
pub mod story;
pub mod topics;

// here and not beside `main`, so that benchmarks of the program's parts have the program's allocator
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
