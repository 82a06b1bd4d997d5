//! Versions in the boot loader's order (UAPI.10, version format specification), so that what we call newer is what it
//! starts first.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Longer ones do not make readable file names on a FAT file system.
const MAX_LEN: usize = 64;

/// A version: letters, digits, `.`, `-`, `^`, `_` and `~`. Equal are those that are written alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version(String);

/// Not a version, or one that cannot be told from the boot loader's counters in a file name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version; letters, digits and . - ^ _ ~ make one, at most {MAX_LEN} of them")]
pub(crate) struct NoVersion(String);

// === impl Version ===

impl FromStr for Version {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-^_~".contains(&byte);
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins && text.len() <= MAX_LEN && text.bytes().all(known) {
            Ok(Version(text.to_owned()))
        } else {
            Err(NoVersion(text.to_owned()))
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Version {
    /// The order of the specification: `1.0~rc1` before `1.0`, `1.9` before `1.10`.
    pub(crate) fn order(&self, other: &Version) -> Ordering {
        order(self.0.as_bytes(), other.0.as_bytes())
    }
}

fn order(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        // 1: what has no meaning.
        (a, b) = (meaning(a), meaning(b));
        // 2 to 6, in this order: `~` is less than the end, the end is less than anything else, then `-`, `^`, `.`.
        for separator in [Some(b'~'), None, Some(b'-'), Some(b'^'), Some(b'.')] {
            let at = |text: &[u8]| text.first().copied() == separator;
            match (at(a), at(b)) {
                (false, false) => {}
                (true, false) => return Ordering::Less,
                (false, true) => return Ordering::Greater,
                (true, true) if separator.is_none() => return Ordering::Equal,
                (true, true) => (a, b) = (rest(a, 1), rest(b, 1)),
            }
        }
        // 7: numbers by value, 8: words by their letters.
        let digits = |text: &[u8]| text.first().is_some_and(u8::is_ascii_digit);
        let (part_a, part_b) = if digits(a) || digits(b) {
            (run(a, u8::is_ascii_digit), run(b, u8::is_ascii_digit))
        } else {
            (run(a, u8::is_ascii_alphabetic), run(b, u8::is_ascii_alphabetic))
        };
        let ordered = if digits(a) || digits(b) {
            let (value_a, value_b) = (without_zeros(part_a), without_zeros(part_b));
            value_a.len().cmp(&value_b.len()).then_with(|| value_a.cmp(value_b))
        } else {
            part_a.cmp(part_b)
        };
        if ordered != Ordering::Equal {
            return ordered;
        }
        (a, b) = (rest(a, part_a.len()), rest(b, part_b.len()));
    }
}

fn meaning(text: &[u8]) -> &[u8] {
    let means = |byte: &u8| byte.is_ascii_alphanumeric() || b"-.~^".contains(byte);
    rest(text, text.iter().position(means).unwrap_or(text.len()))
}

fn run(text: &[u8], of: impl Fn(&u8) -> bool) -> &[u8] {
    let len = text.iter().take_while(|byte| of(byte)).count();
    text.get(..len).unwrap_or_default()
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    rest(digits, digits.iter().take_while(|&&digit| digit == b'0').count())
}

fn rest(text: &[u8], from: usize) -> &[u8] {
    text.get(from..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn the_specifications_own_examples() {
        for (less, greater) in [
            ("11", "12"),
            ("systemd-123", "systemd-124"),
            ("bar-123", "foo-123"),
            ("123a", "123a.1"),
            ("123a-1", "123a.1"),
            ("123a-1", "123a-1.5"),
            ("123a-1.5", "123a.1"),
            ("1.0~rc1", "1.0"),
            ("1.0~rc1", "1.0~rc2"),
            ("1.9", "1.10"),
            ("0.1.0", "0.2.0"),
            ("1", "1.0"),
        ] {
            assert_eq!(version(less).order(&version(greater)), Ordering::Less, "{less} {greater}");
            assert_eq!(version(greater).order(&version(less)), Ordering::Greater);
        }
        assert_eq!(version("1.01").order(&version("1.1")), Ordering::Equal);
    }

    #[test]
    fn what_could_be_taken_for_counters_is_no_version() {
        for text in ["", "1.0+2", "../x", "1 0", "-1", "~1", "ü", &"1".repeat(65)] {
            assert!(text.parse::<Version>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn it_is_an_order(a in "[a-c0-2.~^_-]{0,6}", b in "[a-c0-2.~^_-]{0,6}", c in "[a-c0-2.~^_-]{0,6}") {
            let of = |x: &str, y: &str| order(x.as_bytes(), y.as_bytes());
            prop_assert_eq!(of(&a, &b), of(&b, &a).reverse());
            prop_assert_eq!(of(&a, &a), Ordering::Equal);
            if of(&a, &b) == Ordering::Less && of(&b, &c) == Ordering::Less {
                prop_assert_eq!(of(&a, &c), Ordering::Less);
            }
        }
    }
}
