//! The rule for every text that comes from outside: how long it may be, and what it may hold. Terminals, logs and pages
//! obey some characters; those are refused at the door and escaped wherever a text is shown (`human::visible`).

use crate::human;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Bytes of any text. The longest that is meant is the target of an HTTP health check, and servers take few that are longer.
const MAX_TEXT: usize = 2048;
/// Characters of a name: a source, and three names of Kubernetes with 63 characters each.
pub(super) const MAX_NAME: usize = 253;
/// Characters of an owner: a UUID has 36, and people write a few words.
const MAX_OWNER: usize = 128;
/// Longest name of a source, that of a label in DNS.
const MAX_SOURCE: usize = 63;
/// Bytes of a refused text that are worth repeating.
const SHOWN: usize = 40;

/// Every text in a document of JSON, names of members too, known or not.
///
/// # Errors
/// The first that is longer than any text may be, or holds what is not shown.
pub(super) fn check_all(document: &str) -> Result<(), String> {
    if is_plain(document) {
        return Ok(());
    }
    serde_json::from_str::<Checked>(document).map(drop).map_err(|error| error.to_string())
}

/// True when the texts are in order at a glance, as nearly all are: without escapes a text is what stands between two
/// quotes, and without control characters and bytes above ASCII nothing in it is hidden.
fn is_plain(document: &str) -> bool {
    let is_shown = |byte: u8| matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t') && byte != b'\\';
    document.bytes().all(is_shown) && document.split('"').all(|between| between.len() <= MAX_TEXT)
}

/// Who stands behind a source.
pub(super) fn check_owner(owner: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_graphic() || c == ' ';
    match owner.chars().count() {
        0 => Err("owner is empty; name who stands behind it".to_owned()),
        1..=MAX_OWNER if owner.chars().all(is_allowed) => Ok(()),
        _ => Err(format!("owner has 1 to {MAX_OWNER} printable characters of ASCII")),
    }
}

/// The name of a service or a peer.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(format!("a name has 1 to {MAX_NAME} characters"));
    }
    if !name.chars().all(is_allowed) {
        return Err("a name has letters, digits and - _ . / only".to_owned());
    }
    Ok(())
}

/// The name of a source.
pub(crate) fn check_source(name: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > MAX_SOURCE || !name.chars().all(is_allowed) {
        return Err(format!("a source's name has 1 to {MAX_SOURCE} of a-z, 0-9 and -"));
    }
    Ok(())
}

/// One text.
pub(super) fn check(text: &str) -> Result<(), String> {
    let begins = || human::visible(human::beginning(text, SHOWN));
    if text.len() > MAX_TEXT {
        let len = text.len();
        return Err(format!("a text of {len} bytes (\"{}…\"): the limit is {MAX_TEXT}", begins()));
    }
    match text.chars().find(|c| human::is_hidden(*c)) {
        None => Ok(()),
        Some(c) => {
            let code = u32::from(c);
            Err(format!(
                "a text (\"{}\") has the character U+{code:04X}, which is not shown",
                begins()
            ))
        }
    }
}

/// Nothing is kept of a document but that its texts are in order.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Checked)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Checked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self, E> {
        check(text).map(|()| Checked).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Checked, Checked>()?.is_some() {}
        Ok(Checked)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Checked>()?.is_some() {}
        Ok(Checked)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(Checked)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(Checked)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(Checked)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(Checked)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(Checked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_a_length_and_no_hidden_character() {
        let long = "a".repeat(MAX_TEXT + 1);
        for (text, word) in [
            (long.as_str(), "2049 bytes"),
            ("\u{1b}]0;owned\u{7}", "U+001B"),
            ("line\nline", "U+000A"),
            ("nul\0", "U+0000"),
            ("c1 \u{9b}31m", "U+009B"),
            ("bidi \u{202e}moc.elpmaxe", "U+202E"),
            ("isolate \u{2066}", "U+2066"),
            ("separator \u{2028}", "U+2028"),
            ("mark \u{feff}", "U+FEFF"),
        ] {
            // In any place: a value, a list, the name of a member.
            for document in [
                serde_json::json!({ "owner": text }),
                serde_json::json!({ "services": [{ "unknown": [1, true, null, 1.5, text] }] }),
                serde_json::json!({ "a": { text: 1 } }),
            ] {
                let why = check_all(&document.to_string()).unwrap_err();
                assert!(why.contains(word) && why.len() < 300, "{word}: {why}");
                assert!(!why.contains(human::is_hidden), "{why:?}");
            }
        }
        assert_eq!(check_all(r#"{"a": ["größer", "東京", "\/", 9e9, -1, {}, null]}"#), Ok(()));
    }

    #[test]
    fn owners_and_names_have_limits() {
        for owner in ["uid-1", "ops team, Berlin", "6f9b7c0e-8d1b-4d0e-9d5d-0a3d6a1c2b11"] {
            assert_eq!(check_owner(owner), Ok(()), "{owner}");
        }
        let long = "o".repeat(10 << 20);
        for owner in ["", "größe", long.as_str(), "a\tb"] {
            let why = check_owner(owner).unwrap_err();
            assert!(why.starts_with("owner"), "{why}");
        }
        assert!(check_name("prod/default/web/80-tcp").is_ok() && check_name("a b").is_err());
        assert!(
            check_name(&"n".repeat(MAX_NAME)).is_ok()
                && check_name(&"n".repeat(MAX_NAME + 1)).is_err()
        );
        assert!(
            check_source("prod-1").is_ok()
                && check_source("Prod").is_err()
                && check_source("").is_err()
        );
    }
}
