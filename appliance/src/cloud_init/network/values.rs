//! Values that both formats have, and how YAML may spell them.

use crate::cloud_init::Mistake;
use ipnet::{IpNet, ip_mask_to_prefix};
use serde::{Deserialize, Deserializer};
use std::net::IpAddr;

/// One word or several.
#[derive(Default, Deserialize)]
#[serde(untagged)]
pub(super) enum Words {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl Words {
    pub(super) fn iter(&self) -> std::slice::Iter<'_, String> {
        match self {
            Words::None => [].iter(),
            Words::One(word) => std::slice::from_ref(word).iter(),
            Words::Many(words) => words.iter(),
        }
    }
}

/// A prefix' length, or a mask; as a number or a text.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Mask {
    Length(u8),
    Text(String),
}

/// True and false, with the words that the YAML of old has for them.
pub(super) fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Spelt {
        Flag(bool),
        Word(String),
    }
    Ok(Option::<Spelt>::deserialize(from)?.map(|spelt| match spelt {
        Spelt::Flag(flag) => flag,
        Spelt::Word(word) => ["yes", "on", "true"].contains(&word.to_lowercase().as_str()),
    }))
}

pub(super) fn address(text: &str) -> Result<IpAddr, Mistake> {
    text.trim().parse().map_err(|_| wrong(text, "address"))
}

/// An address with its prefix: in one text, or the latter on its own.
pub(super) fn with_prefix(text: &str, mask: Option<&Mask>) -> Result<IpNet, Mistake> {
    let no = || wrong(text, "address with the length of its prefix");
    if let Ok(both) = text.trim().parse() {
        return Ok(both);
    }
    let length = match mask.ok_or_else(no)? {
        Mask::Length(length) => *length,
        Mask::Text(text) => match text.trim().parse() {
            Ok(length) => length,
            Err(_) => ip_mask_to_prefix(address(text)?).map_err(|_| wrong(text, "mask"))?,
        },
    };
    IpNet::new(address(text)?, length).map_err(|_| no())
}

pub(super) fn mac(text: &str) -> Result<String, Mistake> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_octet = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    if parts.len() != 6 || !parts.iter().all(is_octet) {
        return Err(wrong(text, "MAC address"));
    }
    Ok(text.to_lowercase())
}

/// The name of a card, or a pattern. Nothing that would end its line or begin another pattern.
pub(super) fn card(text: &str) -> Result<String, Mistake> {
    pattern(text, "name of a card")
}

/// The name of a kernel driver, or a pattern.
pub(super) fn driver(text: &str) -> Result<String, Mistake> {
    pattern(text, "driver")
}

/// An exclamation mark would make it every other card.
fn pattern(text: &str, wanted: &'static str) -> Result<String, Mistake> {
    if text.starts_with('!') { Err(wrong(text, wanted)) } else { word(text, wanted) }
}

pub(super) fn domain(text: &str) -> Result<String, Mistake> {
    word(text, "domain")
}

fn word(text: &str, wanted: &'static str) -> Result<String, Mistake> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong(text, wanted));
    }
    Ok(text.to_owned())
}

fn wrong(value: &str, wanted: &'static str) -> Mistake {
    Mistake::Value { value: value.to_owned(), wanted }
}
