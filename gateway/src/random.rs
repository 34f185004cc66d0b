//! Random bytes from the operating system: for ids, tokens and traces.

/// So many random bytes.
///
/// # Panics
/// If the operating system has no random source; nothing here could go on safely without one.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has a random source");
    bytes
}

/// A random number.
pub(crate) fn number() -> u64 {
    u64::from_be_bytes(bytes())
}
