//! Single values: from what TOML knows to what the appliance means, or a sentence that says what to write instead.

use crate::human;
use ipnet::IpNet;
use sluice_model::{Class, StatusRange};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

/// Bytes of a text; the longest that is meant is a path.
const MAX_TEXT: usize = 4096;

/// Bytes of a text that messages repeat.
const SHOWN: usize = 200;

type Parsed<T> = Result<T, String>;

/// A value as the file has it, for messages.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{}\"", human::visible(human::beginning(text, SHOWN))),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// What sort of value it is, in the operator's words.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

pub(super) fn text(value: &DeValue<'_>) -> Parsed<String> {
    match value.as_str() {
        Some("") => Err("is empty; write a value or leave the key out".to_owned()),
        Some(text) if text.len() > MAX_TEXT => {
            Err(format!("has {} bytes; write {MAX_TEXT} at most", text.len()))
        }
        Some(text) => match text.chars().find(|c| human::is_hidden(*c)) {
            Some(c) => Err(format!(
                "has the character U+{:04X}, which is not shown; leave it out",
                u32::from(c)
            )),
            None => Ok(text.to_owned()),
        },
        None => Err(format!("{} is not text; write it in quotes", shown(value))),
    }
}

pub(super) fn boolean(value: &DeValue<'_>) -> Parsed<bool> {
    value
        .as_bool()
        .ok_or_else(|| format!("{} is not a truth value; write true or false", shown(value)))
}

/// A whole number in a range.
pub(super) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&DeValue<'_>) -> Parsed<T>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display + Copy,
{
    move |value| {
        let (low, high) = (*range.start(), *range.end());
        let Some(digits) = value.as_integer() else {
            let unquoted = value.as_str().filter(|text| text.parse::<i64>().is_ok());
            return Err(match unquoted {
                Some(number) => format!("{} is text; write {number} without quotes", shown(value)),
                None => format!("{} is not a number; write one from {low} to {high}", shown(value)),
            });
        };
        let number = i64::from_str_radix(digits.as_str(), digits.radix()).ok();
        let number = number.and_then(|number| T::try_from(number).ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            format!("{} is out of range; write a number from {low} to {high}", shown(value))
        })
    }
}

pub(super) fn port(value: &DeValue<'_>) -> Parsed<u16> {
    integer(1u16..=u16::MAX)(value)
}

/// One of a closed set of words.
pub(super) fn choice<T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Parsed<T> {
    move |value| {
        let found = words.iter().find(|(word, _)| value.as_str() == Some(word));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let quoted: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            format!("{} is not known; write {}", shown(value), one_of(&quoted))
        })
    }
}

/// Words as they are listed in a sentence.
fn one_of(words: &[String]) -> String {
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// An absolute path.
pub(super) fn path(value: &DeValue<'_>) -> Parsed<PathBuf> {
    let path = PathBuf::from(text(value)?);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("{} is not an absolute path; write /{}", shown(value), path.display()))
    }
}

pub(super) fn address(value: &DeValue<'_>) -> Parsed<IpAddr> {
    let written = value.as_str().unwrap_or_default().trim();
    if let Ok(address) = written.parse::<IpAddr>() {
        return match address {
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => {
                    Err(format!("{} is an IPv4 address in disguise; write {v4}", shown(value)))
                }
                None => Ok(address),
            },
            IpAddr::V4(_) => Ok(address),
        };
    }
    let mut message = format!("{} is not an address", shown(value)).replace('"', "");
    let alone =
        written.split_once('/').map(|(address, _)| address).and_then(|a| a.parse::<IpAddr>().ok());
    let alone = alone.or_else(|| written.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    // Writing to a String cannot fail.
    let _infallible = match alone {
        Some(address) => write!(message, "; write {address}"),
        None => write!(message, "; write one like 203.0.113.10 or 2001:db8::10"),
    };
    Err(message)
}

pub(super) fn ipv4(value: &DeValue<'_>) -> Parsed<Ipv4Addr> {
    match address(value)? {
        IpAddr::V4(v4) => Ok(v4),
        IpAddr::V6(v6) => {
            Err(format!("{v6} is an IPv6 address; write an IPv4 address like 10.0.0.2"))
        }
    }
}

pub(super) fn ipv6(value: &DeValue<'_>) -> Parsed<Ipv6Addr> {
    match address(value)? {
        IpAddr::V6(v6) => Ok(v6),
        IpAddr::V4(v4) => {
            Err(format!("{v4} is an IPv4 address; write an IPv6 address like 2001:db8::2"))
        }
    }
}

/// An address of one host that is routed.
pub(super) fn routed(value: &DeValue<'_>) -> Parsed<IpAddr> {
    let address = address(value)?;
    match Class::of(address) {
        None => Ok(address),
        Some(class) => Err(format!("{address} {class}; write an address that is routed")),
    }
}

/// An address that packets can be sent to from another host, if only from one on the same link: link-local addresses of
/// IPv4 are unique on a host that has one such link.
pub(super) fn unicast(value: &DeValue<'_>) -> Parsed<IpAddr> {
    let address = address(value)?;
    match not_routed(address) {
        None => Ok(address),
        Some(wrong) => Err(format!("{address} {wrong}; write an address that is routed")),
    }
}

/// Why no packets can be sent to an address from another host.
pub(crate) fn not_routed(address: IpAddr) -> Option<Class> {
    Class::of(address).filter(|class| !(*class == Class::LinkLocal && address.is_ipv4()))
}

/// As [`unicast`], IPv4 only.
pub(super) fn unicast_ipv4(value: &DeValue<'_>) -> Parsed<Ipv4Addr> {
    match unicast(value)? {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => Err(format!("{address} is IPv6; write an IPv4 address")),
    }
}

/// A prefix without host bits; an address alone stands for itself.
pub(super) fn prefix(value: &DeValue<'_>) -> Parsed<IpNet> {
    let written = value.as_str().unwrap_or_default().trim();
    if let Ok(address) = written.parse::<IpAddr>() {
        return Ok(address.into());
    }
    match written.parse::<IpNet>() {
        Ok(prefix) if prefix == prefix.trunc() => Ok(prefix),
        Ok(prefix) => {
            Err(format!("{prefix} has bits beyond its length; write \"{}\"", prefix.trunc()))
        }
        Err(_) => Err(format!(
            "{} is not a prefix; write one like \"10.0.0.0/8\" or \"2001:db8::/32\"",
            shown(value)
        )),
    }
}

/// A community of RFC 1997 or RFC 8092.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Community {
    /// High 16 bits first.
    Standard(u32),
    /// Three numbers.
    Large([u32; 3]),
}

/// `ASN:VALUE` or `ASN:A:B`.
pub(crate) fn community_of(text: &str) -> Option<Community> {
    let numbers: Option<Vec<u32>> = text.trim().split(':').map(|part| part.parse().ok()).collect();
    match numbers?.as_slice() {
        [high, low] if *high <= 0xffff && *low <= 0xffff => {
            Some(Community::Standard(high << 16 | low))
        }
        [asn, a, b] => Some(Community::Large([*asn, *a, *b])),
        _ => None,
    }
}

/// [`community_of`] a value of the file.
pub(super) fn community(value: &DeValue<'_>) -> Parsed<Community> {
    community_of(value.as_str().unwrap_or_default()).ok_or_else(|| {
        format!(
            "{} is not a community; write \"64512:100\" (numbers up to 65535) or \"64512:1:2\"",
            shown(value)
        )
    })
}

/// An address with a port; `example_port` is offered when only the port is missing.
pub(super) fn socket(example_port: u16) -> impl Fn(&DeValue<'_>) -> Parsed<SocketAddr> {
    move |value| {
        let written = value.as_str().unwrap_or_default().trim();
        if let Ok(socket) = written.parse::<SocketAddr>() {
            return Ok(socket);
        }
        Err(match written.parse::<IpAddr>() {
            Ok(address) => {
                format!(
                    "{} has no port; write \"{}\"",
                    shown(value),
                    SocketAddr::new(address, example_port)
                )
            }
            Err(_) => format!(
                "{} is not an address with a port; write \"127.0.0.1:{example_port}\" or \"[::1]:{example_port}\"",
                shown(value)
            ),
        })
    }
}

/// A length of time between two bounds, written with its unit.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&DeValue<'_>) -> Parsed<Duration> {
    move |value| {
        let duration = any_duration(value)?;
        if range.contains(&duration) {
            return Ok(duration);
        }
        let (low, high) = (spelled(*range.start()), spelled(*range.end()));
        Err(format!("{} is out of range; write from \"{low}\" to \"{high}\"", shown(value)))
    }
}

/// [`duration`] for what is counted in whole seconds: fields of BGP messages, and idle times in the data plane.
pub(super) fn whole_seconds(
    range: RangeInclusive<Duration>,
) -> impl Fn(&DeValue<'_>) -> Parsed<Duration> {
    move |value| {
        let duration = duration(range.clone())(value)?;
        if duration.subsec_nanos() != 0 {
            let rounded = Duration::from_secs(duration.as_secs().saturating_add(1));
            let (is, write) = (spelled(duration), spelled(rounded));
            return Err(format!("\"{is}\" is counted in whole seconds; write \"{write}\""));
        }
        Ok(duration)
    }
}

const DURATION_FORM: &str = "write a number with ms, s, m or h, like \"500ms\" or \"30s\"";

fn any_duration(value: &DeValue<'_>) -> Parsed<Duration> {
    match value.as_str() {
        Some(written) => written_duration(written),
        None => Err(match value.as_integer() {
            Some(number) => format!("{number} has no unit; write \"{number}s\""),
            None => format!("{} is not a time; {DURATION_FORM}", shown(value)),
        }),
    }
}

/// A length of time as it is written in the file and on the command line.
pub(crate) fn written_duration(written: &str) -> Parsed<Duration> {
    let written = written.trim();
    let unit_at = written.find(|c: char| !c.is_ascii_digit()).unwrap_or(written.len());
    let (digits, unit) = written.split_at(unit_at);
    let Ok(number) = digits.parse::<u64>() else {
        return Err(format!("\"{written}\" is not a time; {DURATION_FORM}"));
    };
    let milliseconds = match unit.trim() {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" | "min" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "" => return Err(format!("\"{written}\" has no unit; write \"{number}s\"")),
        _ => return Err(format!("\"{written}\" is not a time; {DURATION_FORM}")),
    };
    milliseconds
        .map(Duration::from_millis)
        .ok_or_else(|| format!("\"{written}\" is too long; {DURATION_FORM}"))
}

/// A length of time as it is written in the file.
pub(crate) fn spelled(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    match milliseconds {
        0 => "0s".to_owned(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// Statuses of HTTP: one, or first and last.
pub(super) fn status_range(value: &DeValue<'_>) -> Parsed<StatusRange> {
    let written = match value {
        DeValue::String(text) => text.to_string(),
        other => shown(other),
    };
    let (first, last) = written.split_once('-').unwrap_or((&written, &written));
    let status = |text: &str| text.trim().parse::<u16>().ok().filter(|s| (100..=599).contains(s));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok(StatusRange { first, last }),
        (Some(first), Some(last)) => {
            Err(format!("{} runs backwards; write \"{last}-{first}\"", shown(value)))
        }
        _ => Err(format!(
            "{} is not a range of HTTP statuses; write \"200-299\" or \"200\"",
            shown(value)
        )),
    }
}
