//! Names of plans, slices and bytes in hex, as they are persisted.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Lower-case hex of bytes.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

/// The bytes of a hex text of exactly `N` bytes.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let mut out = [0; N];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(out)
}

/// serde for fixed-size bytes as hex text.
pub mod as_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    /// Writes the bytes as hex.
    pub fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::hex(bytes))
    }

    /// Reads exactly `N` bytes of hex.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        from: D,
    ) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(from)?;
        super::unhex(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not {N} bytes of hex")))
    }
}

/// Identifies a plan: a pure function of what lands, where, and in which slices.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanId(String);

impl PlanId {
    /// From the first 16 bytes of a hash.
    pub fn from_hash(hash: &[u8; 32]) -> Self {
        PlanId(hex(&hash[..16]))
    }

    /// As persisted.
    pub fn new(text: impl Into<String>) -> Self {
        PlanId(text.into())
    }

    /// As persisted.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Identifies a slice inside its plan: its start in UTC, then `.0` or `.1` per halving.
///
/// ```
/// use retrofill_core::id::SliceId;
/// let id = SliceId::of("2019-01-01T00:00:00Z".parse()?);
/// assert_eq!(id.to_string(), "20190101T000000Z");
/// assert_eq!(id.child(1).to_string(), "20190101T000000Z.1");
/// assert_eq!(id.child(1).parent(), Some(id));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SliceId(String);

impl SliceId {
    /// The id of the slice that starts here.
    pub fn of(start: Timestamp) -> Self {
        let whole = start.strftime("%Y%m%dT%H%M%S");
        let fraction = start.as_nanosecond().rem_euclid(1_000_000_000);
        SliceId(match fraction {
            0 => format!("{whole}Z"),
            n => format!("{whole}_{n:09}Z"),
        })
    }

    /// As persisted.
    pub fn new(text: impl Into<String>) -> Self {
        SliceId(text.into())
    }

    /// The id of a half: 0 the earlier, 1 the later.
    pub fn child(&self, half: u8) -> Self {
        SliceId(format!("{}.{half}", self.0))
    }

    /// The slice this one is a half of.
    pub fn parent(&self) -> Option<SliceId> {
        self.0.rsplit_once('.').map(|(parent, _)| SliceId(parent.into()))
    }

    /// Whether this is the other one, a part of it, or contains it.
    pub fn is_kin(&self, other: &SliceId) -> bool {
        let (short, long) =
            if self.0.len() <= other.0.len() { (self, other) } else { (other, self) };
        long.0.strip_prefix(&short.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// As persisted.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SliceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips() {
        assert_eq!(unhex::<3>(&hex(&[0, 0xab, 0xff])), Some([0, 0xab, 0xff]));
        assert_eq!(unhex::<2>("abc"), None);
        assert_eq!(unhex::<1>("zz"), None);
    }

    #[test]
    fn halves_are_kin_of_their_parents_alone() {
        let id = |s: &str| SliceId::new(s);
        for (a, b, kin) in
            [("x", "x", true), ("x", "x.0.1", true), ("x.0", "x.1", false), ("x.1", "x.10", false)]
        {
            assert_eq!((id(a).is_kin(&id(b)), id(b).is_kin(&id(a))), (kin, kin), "{a} {b}");
        }
    }

    #[test]
    fn fractions_keep_ids_apart() {
        let a = SliceId::of("2019-01-01T00:00:00.5Z".parse().unwrap());
        assert_eq!(a.to_string(), "20190101T000000_500000000Z");
    }
}
