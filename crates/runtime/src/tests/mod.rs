//! The runtime on the log in memory: cases one by one, and a simulation with seeds.

// cases
mod sample;
mod simulation;
// threads
