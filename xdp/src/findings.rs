//! What others did to the data plane, and what could not be set right.

use std::fmt;

/// Something that was not as this crate had left it, and is again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// The attachment had left the link with this index; it is to be attached again.
    Detached(u32),
    /// Another program ran in our attachment to the link with this index.
    ProgramReplaced(u32),
    /// So many names in the pin directory were missing or led elsewhere.
    Unpinned(usize),
    /// The contents of this map had been changed.
    Map(&'static str),
}

/// One look at what the kernel holds.
#[derive(Debug, Default)]
pub struct Inspection {
    /// What was found since the last one.
    pub found: Vec<Finding>,
    /// What could not be set right, with causes.
    pub failures: Vec<String>,
}

// === impl Finding ===

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Detached(link) => write!(f, "the program had been detached from link {link}"),
            Self::ProgramReplaced(link) => {
                write!(f, "another program had been put in the place of ours on link {link}")
            }
            Self::Unpinned(count) => write!(f, "{count} pins had been removed or replaced"),
            Self::Map(name) => write!(f, "the map {name} had been changed"),
        }
    }
}
