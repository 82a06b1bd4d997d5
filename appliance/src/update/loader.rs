//! What the boot loader leaves for the system in the firmware's variables (Boot Loader Interface of systemd).

use super::entry::Entry;
use std::path::Path;

/// The name of the entry that it has started.
const SELECTED: &str = "efivars/LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Linux puts the variable's attributes before its value.
const ATTRIBUTES: usize = 4;

/// The entry of ours that was started; `firmware` is where the firmware shows itself (`/sys/firmware/efi`).
pub(super) fn selected(firmware: &Path) -> Option<Entry> {
    let variable = std::fs::read(firmware.join(SELECTED)).ok()?;
    let units = variable.get(ATTRIBUTES..)?.chunks_exact(2);
    let name = units.map(|unit| u16::from_le_bytes(unit.try_into().unwrap_or_default()));
    let name: Vec<u16> = name.take_while(|&unit| unit != 0).collect();
    Entry::parse(&String::from_utf16(&name).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_started_entry_is_read_from_its_variable() {
        let scratch = Scratch::new();
        let firmware = scratch.path();
        assert_eq!(selected(firmware), None);
        std::fs::create_dir(firmware.join("efivars")).unwrap();
        for (name, expected) in [
            ("sluice_0.2.0.efi", Some("sluice_0.2.0.efi")),
            ("sluice_0.3.0+2.efi", Some("sluice_0.3.0+2.efi")),
            ("debian.conf", None),
            ("", None),
        ] {
            let mut variable = vec![6, 0, 0, 0];
            variable.extend(name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
            std::fs::write(firmware.join(SELECTED), variable).unwrap();
            let entry = selected(firmware).map(|entry| entry.to_string());
            assert_eq!(entry.as_deref(), expected);
        }
    }
}
