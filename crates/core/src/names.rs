//! Names that were nearly right.

/// The name that was probably meant: only a few letters off, or only in case; letters in another
/// order are the likeliest.
pub fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let letters = |text: &str| {
        let mut letters: Vec<char> = text.to_lowercase().chars().collect();
        letters.sort_unstable();
        letters
    };
    let (lower, of_wrong) = (wrong.to_lowercase(), letters(wrong));
    let near = |name: &str| {
        let letters_off = strsim::damerau_levenshtein(&lower, &name.to_lowercase());
        (letters_off, letters(name) != of_wrong)
    };
    let best = names.min_by_key(|name| near(name))?;
    let (off, length) = (near(best).0, best.chars().count());
    (off <= 1 + length / 4 && off < length.max(wrong.chars().count())).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_letters_off() {
        assert_eq!(nearest("vv", ["t", "v"].into_iter()), Some("v"));
        assert_eq!(nearest("t", ["site", "v"].into_iter()), None);
        assert_eq!(nearest("Orgin", ["dest", "origin"].into_iter()), Some("origin"));
    }
}
