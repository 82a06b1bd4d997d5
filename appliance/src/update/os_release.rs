//! os-release(5): the words an operating system has about itself; the running one's and that inside an update.

use super::version::{NoVersion, Version};

/// What both must call themselves.
const ID: &str = "sluice";

/// It is not told which version of Sluice this is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotOurs {
    /// Another operating system.
    #[error("it is {0:?} and not Sluice's own image")]
    Other(String),
    /// No version.
    #[error("it does not say which version it is (IMAGE_VERSION or VERSION_ID)")]
    Silent,
    /// Not a version.
    #[error(transparent)]
    Version(#[from] NoVersion),
}

/// The version of the image that this text is from.
pub(crate) fn version(text: &str) -> Result<Version, NotOurs> {
    let id = value(text, "ID").unwrap_or("linux");
    if id != ID {
        return Err(NotOurs::Other(id.to_owned()));
    }
    let version = value(text, "IMAGE_VERSION").or_else(|| value(text, "VERSION_ID"));
    Ok(version.ok_or(NotOurs::Silent)?.parse()?)
}

/// The last assignment counts, as in a shell. Escapes are not understood: none of these values can hold one.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let assigned = |line: &'a str| line.trim().strip_prefix(key)?.strip_prefix('=');
    let value = text.lines().filter_map(assigned).next_back()?;
    let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let other = NotOurs::Other("debian".to_owned());
        for (text, expected) in [
            ("ID=sluice\nVERSION_ID=\"0.1.0\"\n", Ok("0.1.0")),
            ("NAME=x\nID='sluice'\nVERSION_ID=12\nIMAGE_VERSION=0.2.0\n", Ok("0.2.0")),
            ("ID=sluice\nIMAGE_VERSION=\nVERSION_ID=1\nVERSION_ID=2", Ok("2")),
            ("ID=debian\nVERSION_ID=12\n", Err(other)),
            ("VERSION_ID=12\n", Err(NotOurs::Other("linux".to_owned()))),
            ("ID=sluice\nVERSION_IDX=1\n", Err(NotOurs::Silent)),
            ("ID=sluice\nVERSION_ID=a+b\n", Err("a+b".parse::<Version>().unwrap_err().into())),
        ] {
            let expected = expected.map(|version| version.parse().unwrap());
            assert_eq!(version(text), expected, "{text}");
        }
    }
}
