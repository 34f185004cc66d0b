//! Both implementations of the ports against their contract, and the bus on NATS against servers that die, forget, or
//! are not as they should be.

mod in_process;
mod nats;
mod nats_contract;
mod nats_failures;
mod nats_measure;
mod nats_setup;
