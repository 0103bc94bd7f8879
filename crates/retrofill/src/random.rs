//! Random bytes of the system.

use retrofill_core::error::{Error, Result};

/// So many bytes that nobody can guess.
pub fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::unavailable("the system gives no random numbers").because(e))?;
    Ok(bytes)
}
