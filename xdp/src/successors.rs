//! The programs that packets are handed over to: one for NAT64, one for SCTP, one for
//! who asks for MACs, one for replies of no known flow.

use aya::Ebpf;
use aya::maps::{MapData, MapError, ProgramArray};
use sluice_xdp_abi::names;

use crate::error::{MapFailure, OpenError};
use crate::open::program;

const SUCCESSORS: [(&str, u32); 4] = [
    (names::TRANSLATOR, names::TRANSLATOR_PLACE),
    (names::ASSOCIATIONS, names::ASSOCIATIONS_PLACE),
    (names::NEIGHBOURS, names::NEIGHBOURS_PLACE),
    (names::FORGOTTEN, names::FORGOTTEN_PLACE),
];

/// The table of them. Emptied by the kernel when the last descriptor and name of it go.
pub(crate) type Table = ProgramArray<MapData>;

/// The table, out of the object.
pub(crate) fn take(bpf: &mut Ebpf) -> Result<Table, OpenError> {
    let map = bpf.take_map(names::SUCCESSORS).ok_or(OpenError::Incomplete(names::SUCCESSORS))?;
    Ok(ProgramArray::try_from(map).map_err(failed)?)
}

/// Puts them, loaded, where the programs before them find them. A predecessor's are replaced between two packets.
pub(crate) fn install(bpf: &mut Ebpf, successors: &mut Table) -> Result<(), OpenError> {
    for (name, place) in SUCCESSORS {
        let incomplete = || OpenError::Incomplete(name);
        let program = program(bpf, name).ok_or_else(incomplete)?;
        let refused = |source| OpenError::Program { name, source: Box::new(source) };
        let fd = program.fd().map_err(refused)?.try_clone().map_err(|_| incomplete())?;
        successors.set(place, &fd, 0).map_err(failed)?;
    }
    Ok(())
}

fn failed(source: MapError) -> MapFailure {
    MapFailure { map: names::SUCCESSORS, source: Box::new(source) }
}
