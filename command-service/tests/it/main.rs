//! The command-service over the real log and the in-process bus.

mod children;
mod crashes;
mod event_waits;
mod faults;
mod faulty_log;
mod forks;
mod harness;
mod identities;
mod lanes;
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
mod stopping;
