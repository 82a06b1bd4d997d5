//! Interface patterns: which links the data plane works on.

use std::fmt;

/// Longest name of a link: IFNAMSIZ of `linux/if.h` without the final zero.
const MAX_NAME: usize = 15;

/// Patterns as configured. A link is selected when an include pattern matches it and no exclude pattern does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patterns {
    include: Vec<String>,
    exclude: Vec<String>,
}

// === impl Patterns ===

impl Patterns {
    /// Adds one pattern; `!` in front excludes, `*` stands for any text, `?` for one character.
    ///
    /// # Errors
    /// With the sentence for the operator.
    pub(crate) fn add(&mut self, pattern: &str) -> Result<(), String> {
        let (name, list) = match pattern.strip_prefix('!') {
            Some(name) => (name, &mut self.exclude),
            None => (pattern, &mut self.include),
        };
        if name.is_empty() || name.contains(['/', '!']) || name.contains(char::is_whitespace) {
            return Err(format!(
                "\"{pattern}\" is not a pattern; write one like \"eth*\" or \"!eth9\""
            ));
        }
        if name.chars().filter(|c| *c != '*').count() > MAX_NAME {
            return Err(format!(
                "\"{pattern}\" is longer than a link's name can be; write at most {MAX_NAME} characters"
            ));
        }
        list.push(name.to_owned());
        Ok(())
    }

    /// True when some link could be selected at all.
    pub(crate) fn includes_any(&self) -> bool {
        !self.include.is_empty()
    }

    /// True when the link is selected. The loopback interface never is: the VIPs live there, no client does.
    pub(crate) fn selects(&self, link: &str) -> bool {
        link != "lo"
            && self.include.iter().any(|pattern| matches(pattern, link))
            && !self.exclude.iter().any(|pattern| matches(pattern, link))
    }

    /// Include patterns that name one link each.
    pub(crate) fn exact(&self) -> impl Iterator<Item = &str> + '_ {
        self.include.iter().map(String::as_str).filter(|pattern| !pattern.contains(['*', '?']))
    }
}

impl fmt::Display for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let excluded = self.exclude.iter().map(|pattern| format!("!{pattern}"));
        let all: Vec<String> = self.include.iter().cloned().chain(excluded).collect();
        f.write_str(&all.join(", "))
    }
}

/// Glob match; linear space, and quadratic time in the worst case of two short words.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    // reachable[i]: the pattern read so far matches the first i characters.
    let mut reachable = vec![false; name.len() + 1];
    if let Some(first) = reachable.first_mut() {
        *first = true;
    }
    for wanted in pattern {
        let mut next = vec![false; reachable.len()];
        let mut any_before = false;
        for (i, slot) in next.iter_mut().enumerate() {
            let here = reachable.get(i).copied().unwrap_or(false);
            any_before |= here;
            *slot = if wanted == '*' {
                any_before
            } else {
                let previous = i.checked_sub(1);
                let matched = previous
                    .and_then(|p| name.get(p))
                    .is_some_and(|c| wanted == '?' || *c == wanted);
                matched && previous.and_then(|p| reachable.get(p)).copied().unwrap_or(false)
            };
        }
        reachable = next;
    }
    reachable.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selection() {
        let mut patterns = Patterns::default();
        for pattern in ["eth*", "!eth9", "uplink", "v?t", "*"] {
            patterns.add(pattern).unwrap();
        }
        let mut narrow = patterns.clone();
        narrow.include.pop();
        for (link, selected) in [
            ("eth0", true),
            ("eth", true),
            ("eth9", false),
            ("eth91", true),
            ("uplink", true),
            ("uplink0", false),
            ("vet", true),
            ("veet", false),
            ("lo", false),
            ("xeth0", false),
        ] {
            assert_eq!(narrow.selects(link), selected, "{link}");
        }
        assert!(
            patterns.selects("anything") && !patterns.selects("lo") && !patterns.selects("eth9")
        );
        assert_eq!(patterns.exact().collect::<Vec<_>>(), ["uplink"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for pattern in ["", "!", "a b", "a/b", "!!x", "a-name-that-is-too-long"] {
            assert!(Patterns::default().add(pattern).is_err(), "{pattern}");
        }
    }
}
