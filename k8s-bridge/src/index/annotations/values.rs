//! Values of annotations: what is meant is taken, however it is spelled.

use super::super::vocabulary::shortened;
use super::super::{Trouble, trouble};
use std::ops::RangeInclusive;

/// Takes a value; two places that differ contradict each other.
pub(super) fn once<T: PartialEq>(slot: &mut Option<T>, key: &str, value: T) -> Result<(), Trouble> {
    if slot.as_ref().is_some_and(|other| *other != value) {
        let what = format!("{key} contradicts another annotation; take one of them off");
        return Err(trouble("AnnotationContradiction", what));
    }
    *slot = Some(value);
    Ok(())
}

/// As Kubernetes, Go's `strconv.ParseBool`, YAML and kube-loxilb spell it.
pub(super) fn truth(key: &str, value: &str) -> Result<bool, Trouble> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" | "t" | "y" => Ok(true),
        "false" | "no" | "off" | "0" | "f" | "n" => Ok(false),
        _ => Err(invalid(key, value, "true or false")),
    }
}

pub(super) fn number(key: &str, value: &str, within: RangeInclusive<u32>) -> Result<u32, Trouble> {
    let (low, high) = (within.start(), within.end());
    let read = value.parse().ok().filter(|number| within.contains(number));
    read.ok_or_else(|| invalid(key, value, &format!("a whole number from {low} to {high}")))
}

/// A number of seconds, or a duration as Go writes it (`90s`, `1h30m`), and days.
pub(super) fn seconds(key: &str, value: &str, within: RangeInclusive<u32>) -> Result<u32, Trouble> {
    let read = value.parse().ok().or_else(|| duration(value));
    let (low, high) = (within.start(), within.end());
    read.filter(|number| within.contains(number)).ok_or_else(|| {
        invalid(key, value, &format!("whole seconds from {low} to {high}, like 90, 90s or 1h30m"))
    })
}

/// Parts of a number and a unit each, the largest unit first.
fn duration(text: &str) -> Option<u32> {
    let mut rest = text;
    let mut all = 0u32;
    let mut below = u32::MAX;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = rest.split_at(digits);
        let mut letters = unit.chars();
        let unit = match letters.next()? {
            'd' => 86_400,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        if unit >= below {
            return None;
        }
        all = all.checked_add(number.parse::<u32>().ok()?.checked_mul(unit)?)?;
        (below, rest) = (unit, letters.as_str());
    }
    Some(all)
}

/// As much of a value as tells which one is meant; what is to be done stands behind it.
fn quoted(value: &str) -> String {
    format!("{:?}", shortened(value, 100))
}

pub(super) fn invalid(key: &str, value: &str, wanted: &str) -> Trouble {
    let value = quoted(value);
    trouble("InvalidAnnotation", format!("{key} is {value}; it takes {wanted}"))
}

pub(super) fn unsupported(key: &str, value: &str) -> Trouble {
    let value = quoted(value);
    trouble("UnsupportedAnnotation", format!("{key}: {value} is not served; take it off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, wanted) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("1h", Some(3600)),
            ("1h30m", Some(5400)),
            ("7d", Some(604_800)),
            ("2m5s", Some(125)),
            ("8d", None),
            ("0", None),
            ("0s", None),
            ("", None),
            ("h", None),
            ("1", Some(1)),
            ("1h1h", None),
            ("1s1h", None),
            ("1.5h", None),
            ("500ms", None),
            ("-1", None),
            ("5 m", None),
            ("soon", None),
            ("99999999999h", None),
        ] {
            assert_eq!(seconds("key", text, 1..=604_800).ok(), wanted, "{text:?}");
        }
    }
}
