//! Having the kernel verify the programs: that is where a start spends its time.

use std::panic::resume_unwind;
use std::thread;

use aya::Ebpf;
use aya::programs::{Program, Xdp};
use sluice_xdp_abi::names;

use crate::error::OpenError;

/// Loads all programs side by side.
pub(crate) fn all(bpf: &mut Ebpf) -> Result<(), OpenError> {
    thread::scope(|scope| {
        let mut started = Vec::new();
        for (name, program) in bpf.programs_mut() {
            // Known by the name that does not borrow from the object.
            if let Some(&name) = names::PROGRAMS.iter().find(|&&known| known == name) {
                started.push(scope.spawn(move || one(name, program)));
            }
        }
        started
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

fn one(name: &'static str, program: &mut Program) -> Result<(), OpenError> {
    let program: &mut Xdp = program.try_into().map_err(|_| OpenError::Incomplete(name))?;
    program.load().map_err(|error| OpenError::Program { name, source: Box::new(error) })
}
