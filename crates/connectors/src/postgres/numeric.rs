//! `numeric` in its binary form: digits of base 10,000, where the first of them stands, and how
//! many decimal digits are shown behind the point.

/// Base of the digits.
const BASE: u128 = 10_000;
/// Decimal digits in one digit.
const STEP: i32 = 4;

const NEGATIVE: u16 = 0x4000;

/// Appends the value `unscaled` x 10^-`scale`. `shown`: digits behind the point that the column
/// always has; none = as many as there are.
pub(super) fn write(unscaled: i128, scale: i8, shown: Option<i8>, out: &mut Vec<u8>) {
    let sign = if unscaled < 0 { NEGATIVE } else { 0 };
    let (mut rest, mut scale) = (unscaled.unsigned_abs(), i32::from(scale));
    if rest == 0 {
        scale = 0;
    }
    while rest != 0 && rest.is_multiple_of(10) && (scale > 0 || scale % STEP != 0) {
        rest /= 10;
        scale -= 1;
    }
    // The last digit of base 10,000 ends at a multiple of four places. More than 38 + 3 decimal
    // digits do not arise, but the last multiplication may: it is done on the digits instead.
    let pad = (STEP - scale.rem_euclid(STEP)) % STEP;
    let mut digits: Vec<u16> = Vec::with_capacity(12);
    let shift = 10_u128.pow(pad as u32);
    if pad > 0 && rest != 0 {
        let low_base = BASE / shift;
        digits.push((rest % low_base * shift) as u16);
        rest /= low_base;
    }
    while rest != 0 {
        digits.push((rest % BASE) as u16);
        rest /= BASE;
    }
    let weight = digits.len() as i32 - 1 - (scale + pad) / STEP;
    let used = digits.iter().skip_while(|d| **d == 0).count();
    digits.drain(..digits.len() - used);
    let shown = shown.map_or(scale.max(0), |s| i32::from(s).max(0));
    out.extend_from_slice(&(8 + 2 * digits.len() as i32).to_be_bytes());
    out.extend_from_slice(&(digits.len() as u16).to_be_bytes());
    out.extend_from_slice(&(if digits.is_empty() { 0 } else { weight as i16 }).to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&(shown as u16).to_be_bytes());
    for digit in digits.iter().rev() {
        out.extend_from_slice(&digit.to_be_bytes());
    }
}

/// The unscaled value for this scale, or why it has none.
pub(super) fn read(bytes: &[u8], precision: u8, scale: i8) -> Result<i128, &'static str> {
    let word = |i: usize| bytes.get(2 * i..2 * i + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let (Some(count), Some(weight), Some(sign)) = (word(0), word(1), word(2)) else {
        return Err("is cut short");
    };
    match sign {
        0 | NEGATIVE => {}
        0xc000 => return Err("is NaN, which no decimal is"),
        _ => return Err("is infinite, which no decimal is"),
    }
    let weight = i32::from(weight as i16);
    let mut value: i128 = 0;
    for i in 0..i32::from(count) {
        let digit = i128::from(word(4 + i as usize).ok_or("is cut short")?);
        let place = STEP * (weight - i) + i32::from(scale);
        let part = if place >= 0 {
            10_i128.checked_pow(place as u32).and_then(|p| digit.checked_mul(p))
        } else {
            let by = 10_i128.checked_pow(place.unsigned_abs());
            match by {
                Some(by) if digit % by == 0 => Some(digit / by),
                _ if digit == 0 => Some(0),
                _ => return Err("has more digits behind the point than are kept"),
            }
        };
        value = part.and_then(|p| value.checked_add(p)).ok_or("has too many digits")?;
    }
    if value >= 10_i128.pow(u32::from(precision)) {
        return Err("has too many digits");
    }
    Ok(if sign == NEGATIVE { -value } else { value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn both_ways(unscaled: i128, scale: i8) -> Result<i128, &'static str> {
        let mut bytes = Vec::new();
        write(unscaled, scale, Some(scale), &mut bytes);
        assert_eq!(bytes.len() as i32, 4 + i32::from_be_bytes(bytes[..4].try_into().unwrap()));
        read(&bytes[4..], 38, scale)
    }

    #[test]
    fn known_forms() {
        let form = |unscaled, scale| {
            let mut bytes = Vec::new();
            write(unscaled, scale, Some(scale), &mut bytes);
            let words = bytes[4..].chunks(2).map(|b| i16::from_be_bytes([b[0], b[1]]));
            words.collect::<Vec<_>>()
        };
        assert_eq!(form(0, 2), [0, 0, 0, 2]);
        assert_eq!(form(12345, 2), [2, 0, 0, 2, 123, 4500]);
        assert_eq!(form(-1, 4), [1, -1, 0x4000, 4, 1]);
        assert_eq!(form(100_000_000, 0), [1, 2, 0, 0, 1]);
        assert_eq!(form(12, -2), [1, 0, 0, 0, 1200]);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let mut bytes = Vec::new();
        write(12345, 3, None, &mut bytes);
        assert!(read(&bytes[4..], 38, 2).unwrap_err().contains("behind the point"));
        assert!(read(&bytes[4..], 4, 3).unwrap_err().contains("too many"));
        assert!(read(&[0, 0, 0, 0, 0xc0, 0, 0, 0], 38, 2).unwrap_err().contains("NaN"));
        assert!(read(&[0, 1], 38, 2).is_err());
    }

    proptest! {
        #[test]
        fn every_decimal_comes_back(
            value in -(10_i128.pow(38) - 1)..10_i128.pow(38), cut in 0_u32..38, scale in -9_i8..38
        ) {
            let value = value / 10_i128.pow(cut);
            prop_assert_eq!(both_ways(value, scale), Ok(value));
        }
    }
}
