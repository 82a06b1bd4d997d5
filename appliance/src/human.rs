//! Numbers, durations and times as people read them; shared by the status page and the command line.
//!
//! Pure: "now" is always a parameter.

use std::fmt::Write as _;

/// True for characters that change how others are shown, or are not seen themselves: control characters (escape sequences
/// of terminals begin with one, also in C1), the controls of bidirectional text (UAX #9), separators of lines, and
/// characters without width. A text with them may show what it does not say.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A text from outside, for one line of a table, a log or a page: what is hidden is written as `\u{1b}`.
pub(crate) fn visible(text: &str) -> String {
    escaped(text, |_| false, |shown, c| write!(shown, "{}", c.escape_unicode()))
}

/// The same for a text of several lines of our own.
pub(crate) fn visible_lines(text: &str) -> String {
    escaped(text, |c| c == '\n', |shown, c| write!(shown, "{}", c.escape_unicode()))
}

/// The same for a document of JSON, in the document's own notation: it says what it said before.
pub(crate) fn visible_json(document: &str) -> String {
    let unit = |shown: &mut String, c: char| {
        c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(shown, "\\u{unit:04x}"))
    };
    // Between its texts a document has line ends and spaces only.
    escaped(document, |c| matches!(c, '\n' | '\r' | '\t'), unit)
}

fn escaped(
    text: &str,
    stays: impl Fn(char) -> bool,
    escape: impl Fn(&mut String, char) -> std::fmt::Result,
) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) && !stays(c) {
            // Writing to a String cannot fail.
            let _infallible = escape(&mut shown, c);
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The beginning of a text, of `most` bytes at most.
pub(crate) fn beginning(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Three significant digits with an SI suffix: `0`, `0.4`, `12.3`, `999`, `1.23k`, `45.6M`.
pub(crate) fn si(value: f64) -> String {
    const SUFFIXES: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    if !value.is_finite() || value <= 0.0 {
        return "0".to_owned();
    }
    let mut scaled = value;
    let mut suffixes = SUFFIXES.iter().peekable();
    let mut suffix = "";
    // 999.5 would print as four digits, so it already belongs to the next suffix.
    while let Some(next) = suffixes.next() {
        suffix = next;
        if scaled < 999.5 || suffixes.peek().is_none() {
            break;
        }
        scaled /= 1000.0;
    }
    let decimals = if scaled >= 99.95 {
        0
    } else if scaled >= 9.995 || suffix.is_empty() {
        1
    } else {
        2
    };
    let mut digits = format!("{scaled:.decimals$}");
    if suffix.is_empty() && digits.ends_with(".0") {
        digits.truncate(digits.len() - 2);
    }
    format!("{digits}{suffix}")
}

/// [`si`] of a counter.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn count(value: u64) -> String {
    si(value as f64)
}

/// Bits per second of a rate in bytes per second.
pub(crate) fn bits(bytes_per_second: f64) -> String {
    si(bytes_per_second * 8.0)
}

/// Queues of a NIC: `4`, or `2, wanted 4`; nothing where there is no NIC.
pub(crate) fn queues(link: &sluice_api::Link) -> String {
    match (link.queues, link.queues_wanted) {
        (Some(queues), Some(wanted)) if queues < wanted => format!("{queues}, wanted {wanted}"),
        (Some(queues), _) => queues.to_string(),
        (None, _) => String::new(),
    }
}

/// The two largest units: `42s`, `3m 10s`, `2h 05m`, `3d 04h`.
pub(crate) fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    if days > 0 {
        format!("{days}d {hours:02}h")
    } else if hours > 0 {
        format!("{hours}h {minutes:02}m")
    } else if minutes > 0 {
        format!("{minutes}m {rest:02}s")
    } else {
        format!("{rest}s")
    }
}

/// The largest unit only: `42s`, `3m`, `2h`, `3d`; changes seldom, so that a page at rest stays at rest.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Seconds since the epoch of an RFC 3339 time in UTC (`2026-05-04T12:00:00Z`, fractions ignored).
pub(crate) fn epoch_seconds(rfc3339: &str) -> Option<u64> {
    let (date, time) = rfc3339.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let mut time = time.splitn(3, ':').map(str::parse::<u64>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Years that start in March put the leap day last, so that days before a month are one expression.
    let (shifted_year, shifted_month) =
        if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = shifted_year / 4 - shifted_year / 100 + shifted_year / 400;
    let days_before_month = (153 * shifted_month + 2) / 5;
    // 719 468 days from 0000-03-01 to 1970-01-01.
    let days =
        (365 * shifted_year + leap_days + days_before_month + day - 1).checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// An address with a port, IPv6 in brackets (RFC 3986 §3.2.2).
pub(crate) fn socket(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_moves_the_cursor() {
        for (text, shown) in [
            ("größer 東京 🦀", "größer 東京 🦀"),
            ("\u{1b}[2J\u{1b}]0;x\u{7}", "\\u{1b}[2J\\u{1b}]0;x\\u{7}"),
            ("a\nb\r\tc\u{8}", "a\\u{a}b\\u{d}\\u{9}c\\u{8}"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("\u{202e}txt.exe\u{2069}", "\\u{202e}txt.exe\\u{2069}"),
        ] {
            assert_eq!(visible(text), shown);
        }
        assert_eq!(visible_lines("a\nb\u{1b}"), "a\nb\\u{1b}");
        let value = serde_json::json!({ "a": "\u{1b}\u{9b}\u{202e}\u{e0041}\n" });
        let shown = visible_json(&format!("{value:#}\n"));
        assert!(!shown.contains(|c| is_hidden(c) && c != '\n'), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        assert_eq!((beginning("größer", 3), beginning("gr", 9)), ("gr", "gr"));
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (-3.0, "0"),
            (f64::NAN, "0"),
            (0.04, "0"),
            (0.44, "0.4"),
            (7.0, "7"),
            (12.34, "12.3"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (1234.0, "1.23k"),
            (12_340.0, "12.3k"),
            (999_600.0, "1.00M"),
            (123_400_000.0, "123M"),
            (1e30, "1000000000000000P"),
        ] {
            assert_eq!(si(value), text, "{value}");
        }
        assert_eq!(count(1_500), "1.50k");
        assert_eq!(bits(125_000.0), "1.00M");
    }

    #[test]
    fn durations_show_two_units() {
        for (seconds, long, short) in [
            (0, "0s", "0s"),
            (59, "59s", "59s"),
            (190, "3m 10s", "3m"),
            (7500, "2h 05m", "2h"),
            (273_600, "3d 04h", "3d"),
        ] {
            assert_eq!(duration(seconds), long);
            assert_eq!(age(seconds), short);
        }
    }

    #[test]
    fn times_are_counted_from_the_epoch() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T23:59:59Z", Some(951_868_799)),
            ("2026-05-04T12:00:00Z", Some(1_777_896_000)),
            ("2026-05-04T12:00:00.123456Z", Some(1_777_896_000)),
            ("2026-05-04T12:00:00", None),
            ("2026-13-04T12:00:00Z", None),
            ("2026-05-04T24:00:00Z", None),
            ("", None),
            ("Z", None),
        ] {
            assert_eq!(epoch_seconds(text), seconds, "{text}");
        }
    }

    #[test]
    fn ports_follow_brackets_of_ipv6() {
        assert_eq!(socket("10.0.0.1", 80), "10.0.0.1:80");
        assert_eq!(socket("2001:db8::1", 80), "[2001:db8::1]:80");
    }
}
