//! The update's file: a unified kernel image, which is a PE executable for UEFI with the operating system in its sections.
//!
//! Only what is signed gets here; the checks are against mistakes (another machine's file, half a download that was
//! signed), and each offset is checked all the same.

use super::os_release::{self, NotOurs};
use super::version::Version;
use std::io::{self, Read, Seek, SeekFrom};

/// `IMAGE_FILE_MACHINE_AMD64`.
const X86_64: u16 = 0x8664;
/// `IMAGE_SUBSYSTEM_EFI_APPLICATION`.
const EFI_APPLICATION: u16 = 10;
/// The loader itself refuses more (PE format, "number of sections").
const MAX_SECTIONS: u16 = 96;

const COFF_LEN: usize = 24;
const SECTION_LEN: usize = 40;

/// Headers and table of sections lie in the first octets; the kernel's own take less than a tenth of this.
const HEAD: u64 = 64 << 10;
/// An os-release is a few hundred octets.
const MAX_WORDS: u64 = 64 << 10;

/// This file is no update.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoUki {
    /// Something else altogether.
    #[error("it is no UEFI executable")]
    NoPe,
    /// Its tables or sections reach beyond its end.
    #[error("it is incomplete: {0} lies beyond its end")]
    Truncated(&'static str),
    /// Of another kind of machine.
    #[error("it is for another kind of machine (0x{0:04x}), not for x86-64")]
    Machine(u16),
    /// Something is missing in it.
    #[error("it holds no operating system: section {0} is missing")]
    Missing(&'static str),
    /// Not an image of ours.
    #[error(transparent)]
    NotOurs(#[from] NotOurs),
    /// The disk, most likely.
    #[error("it cannot be read: {0}")]
    Unreadable(io::ErrorKind),
}

impl From<io::Error> for NoUki {
    fn from(error: io::Error) -> Self {
        NoUki::Unreadable(error.kind())
    }
}

/// The version of the image in this file. Only its headers and that one section are read.
pub(crate) fn version(mut file: impl Read + Seek) -> Result<Version, NoUki> {
    let len = file.seek(SeekFrom::End(0))?;
    let head = read(&mut file, 0, len.min(HEAD))?;
    let sections = sections(&head, len)?;
    let find = |name: &'static str| {
        let mut found = sections.iter().filter(|section| section.name == name.as_bytes());
        found.next().ok_or(NoUki::Missing(name))
    };
    for name in [".linux", ".initrd"] {
        find(name)?;
    }
    let words = find(".osrel")?;
    let words = read(&mut file, words.at, words.len.min(MAX_WORDS))?;
    Ok(os_release::version(&String::from_utf8_lossy(&words))?)
}

fn read(file: &mut (impl Read + Seek), at: u64, len: u64) -> Result<Vec<u8>, NoUki> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.by_ref().take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

struct Section<'a> {
    name: &'a [u8],
    at: u64,
    len: u64,
}

/// The sections of a file with this head and this length.
fn sections(head: &[u8], file_len: u64) -> Result<Vec<Section<'_>>, NoUki> {
    if !head.starts_with(b"MZ") {
        return Err(NoUki::NoPe);
    }
    let start = u32_at(head, 0x3c).ok_or(NoUki::NoPe)? as usize;
    let coff = part(head, start, COFF_LEN).ok_or(NoUki::NoPe)?;
    if !coff.starts_with(b"PE\0\0") {
        return Err(NoUki::NoPe);
    }
    let of_head = |at| u16_at(coff, at).ok_or(NoUki::NoPe);
    let (machine, count, optional) = (of_head(4)?, of_head(6)?, usize::from(of_head(20)?));
    if machine != X86_64 {
        return Err(NoUki::Machine(machine));
    }
    // The subsystem stands at the same place in both forms of the optional header.
    let at = start.checked_add(COFF_LEN).ok_or(NoUki::NoPe)?;
    let header = part(head, at, optional).ok_or(NoUki::Truncated("its header"))?;
    if u16_at(header, 68) != Some(EFI_APPLICATION) || count > MAX_SECTIONS {
        return Err(NoUki::NoPe);
    }
    let at = at.checked_add(optional).ok_or(NoUki::NoPe)?;
    let table = part(head, at, usize::from(count) * SECTION_LEN);
    let table = table.ok_or(NoUki::Truncated("its table of sections"))?;
    table.chunks_exact(SECTION_LEN).map(|row| section(row, file_len)).collect()
}

fn section(row: &[u8], file_len: u64) -> Result<Section<'_>, NoUki> {
    let number = |at| u32_at(row, at).map(u64::from).ok_or(NoUki::NoPe);
    let (virtual_len, raw_len, at) = (number(8)?, number(16)?, number(20)?);
    // Two numbers of 32 bits.
    if at + raw_len > file_len {
        return Err(NoUki::Truncated("a section"));
    }
    let name = part(row, 0, 8).ok_or(NoUki::NoPe)?;
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    // What is longer than the section is padding to the file's alignment.
    Ok(Section { name: name.get(..end).unwrap_or(name), at, len: virtual_len.min(raw_len) })
}

fn part(bytes: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(len)?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(part(bytes, at, 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(part(bytes, at, 4)?.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A PE executable with these sections and nothing else.
    pub(in super::super) fn pe(machine: u16, sections: &[(&str, &[u8])]) -> Vec<u8> {
        const HEAD: usize = 0x80;
        const OPTIONAL: u16 = 240;
        let mut file = vec![0; HEAD];
        file[..2].copy_from_slice(b"MZ");
        file[0x3c] = 0x80;
        file.extend(b"PE\0\0");
        file.extend(machine.to_le_bytes());
        file.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
        file.extend([0; 12]);
        file.extend(OPTIONAL.to_le_bytes());
        file.extend([0; 2]);
        let mut optional = vec![0; usize::from(OPTIONAL)];
        optional[..2].copy_from_slice(&0x20b_u16.to_le_bytes());
        optional[68] = 10;
        file.extend(optional);
        let mut at = (file.len() + sections.len() * SECTION_LEN).next_multiple_of(512);
        for (name, data) in sections {
            let mut row = [0; SECTION_LEN];
            row[..name.len()].copy_from_slice(name.as_bytes());
            let raw_len = data.len().next_multiple_of(512);
            for (offset, number) in [(8, data.len()), (16, raw_len), (20, at)] {
                let number = u32::try_from(number).unwrap();
                row[offset..offset + 4].copy_from_slice(&number.to_le_bytes());
            }
            file.extend(row);
            at += raw_len;
        }
        for (_, data) in sections {
            file.resize(file.len().next_multiple_of(512), 0);
            file.extend(*data);
        }
        file.resize(file.len().next_multiple_of(512), 0);
        file
    }

    /// An update of this version.
    pub(in super::super) fn uki(version: &str) -> Vec<u8> {
        let words = format!("ID=sluice\nNAME=Sluice\nIMAGE_VERSION={version}\n");
        pe(X86_64, &[(".osrel", words.as_bytes()), (".linux", b"kernel"), (".initrd", b"root")])
    }

    fn of(file: &[u8]) -> Result<Version, NoUki> {
        version(io::Cursor::new(file))
    }

    #[test]
    fn the_version_is_read_from_its_section() {
        assert_eq!(of(&uki("0.2.0")).unwrap().to_string(), "0.2.0");
    }

    #[test]
    fn what_is_no_update_says_why() {
        let words: &[u8] = b"ID=sluice\nVERSION_ID=1\n";
        let debian: &[u8] = b"ID=debian\nVERSION_ID=12\n";
        let kernel: [(&str, &[u8]); 2] = [(".linux", b"k"), (".initrd", b"r")];
        let with = |osrel| [(".osrel", osrel), kernel[0], kernel[1]];
        for (file, expected) in [
            (b"\x7fELF".to_vec(), NoUki::NoPe),
            (b"MZ".to_vec(), NoUki::NoPe),
            (Vec::new(), NoUki::NoPe),
            (pe(0xaa64, &with(words)), NoUki::Machine(0xaa64)),
            (pe(X86_64, &kernel), NoUki::Missing(".osrel")),
            (pe(X86_64, &with(words)[..2]), NoUki::Missing(".initrd")),
            (pe(X86_64, &with(debian)), NotOurs::Other("debian".to_owned()).into()),
        ] {
            assert_eq!(of(&file), Err(expected));
        }
    }

    #[test]
    fn half_a_file_is_noticed_wherever_it_ends() {
        let whole = uki("0.2.0");
        for len in 0..whole.len() {
            assert!(of(&whole[..len]).is_err(), "{len}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0_usize..600, byte: u8, len in 0_usize..2048) {
            let mut file = uki("0.2.0");
            file.truncate(len);
            if let Some(there) = file.get_mut(at) {
                *there = byte;
            }
            drop(of(&file));
        }
    }
}
