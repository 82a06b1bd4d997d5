//! `sluice cloud-init`: the face of [`crate::cloud_init`], for the image's own start.

use super::client::print;
use crate::cloud_init::apply;
use anyhow::bail;
use clap::Args;
use std::path::PathBuf;

/// `sluice cloud-init`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CloudInitArgs {
    /// Where user-data, meta-data and network-config lie, and what is made from them is put
    dir: PathBuf,
}

/// Prints `FILE from DOCUMENT` for each file that is made.
///
/// # Errors
/// Every document that is not understood, and why; the others are taken.
pub(crate) fn run(args: &CloudInitArgs) -> anyhow::Result<()> {
    let (mut made, mut mistakes) = (String::new(), Vec::new());
    for (document, outcome) in apply(&args.dir) {
        match outcome {
            Ok(files) => files.iter().for_each(|file| made += &format!("{file} from {document}\n")),
            Err(mistake) => mistakes.push(format!("{document} is not taken: {mistake}")),
        }
    }
    print(&made)?;
    if !mistakes.is_empty() {
        bail!("{}", mistakes.join("; "));
    }
    Ok(())
}
