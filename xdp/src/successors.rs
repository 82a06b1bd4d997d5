//! The program that packets under NAT64 are handed over to.

use aya::Ebpf;
use aya::maps::{MapError, ProgramArray};
use aya::programs::Xdp;
use sluice_xdp_abi::names;

use crate::error::{MapFailure, OpenError};

/// Its place among the successors: it is the only one.
const TRANSLATOR: u32 = 0;

/// Loads it and puts it where the first program finds it. A predecessor's is replaced between two packets.
pub(crate) fn install(bpf: &mut Ebpf) -> Result<(), OpenError> {
    let incomplete = || OpenError::Incomplete(names::TRANSLATOR);
    let failed = |source: MapError| MapFailure { map: names::SUCCESSORS, source: Box::new(source) };
    let program: &mut Xdp = bpf
        .program_mut(names::TRANSLATOR)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(incomplete)?;
    let refused = |source| OpenError::Program { name: names::TRANSLATOR, source: Box::new(source) };
    program.load().map_err(refused)?;
    let fd = program.fd().map_err(refused)?.try_clone().map_err(|_| incomplete())?;
    let map = bpf.take_map(names::SUCCESSORS).ok_or(OpenError::Incomplete(names::SUCCESSORS))?;
    let mut successors = ProgramArray::try_from(map).map_err(failed)?;
    Ok(successors.set(TRANSLATOR, &fd, 0).map_err(failed)?)
}
