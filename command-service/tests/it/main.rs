//! The command-service over the real log and the in-process bus.

mod faults;
mod harness;
mod life;
mod refusals;
mod restart;
