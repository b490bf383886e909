//! The runtime on the log in memory: cases one by one, whole planes with their threads, and a simulation with seeds.

mod cases;
mod hanging;
mod objects;
mod pace;
mod sample;
mod simulation;
mod snapshots;
mod threads;
