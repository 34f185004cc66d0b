//! The command-service over the real log and the in-process bus.

mod faults;
mod harness;
mod life;
mod lossy_queue;
mod publisher;
mod real;
mod refusals;
mod relaying;
mod restart;
mod shared;
mod sharing;
mod silence;
