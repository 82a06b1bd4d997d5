//! Who made an update: a minisign signature beside the file, by the key that the running image holds.

use minisign_verify::{Error, PublicKey, Signature};
use std::path::{Path, PathBuf};

/// Nobody we trust has signed this.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untrusted {
    /// The key cannot be used.
    #[error("cannot use the key {}; --key FILE names another", path.display())]
    Key {
        /// Of the key.
        path: PathBuf,
        /// Not there, or no key.
        #[source]
        source: Error,
    },
    /// No signature, or a file that is none.
    #[error("cannot use the signature {}; --signature FILE names another", path.display())]
    Signature {
        /// Of the signature.
        path: PathBuf,
        /// Not there, or no signature.
        #[source]
        source: Error,
    },
    /// By another key.
    #[error("it is signed with another key than {}", .0.display())]
    OtherKey(PathBuf),
    /// The file is not the one that was signed.
    #[error(
        "the signature is not for this file: it was changed after it was signed, or is incomplete"
    )]
    Changed,
}

/// Checks these bytes; gives the comment that was signed with them.
pub(crate) fn verify(file: &[u8], signature: &Path, key: &Path) -> Result<String, Untrusted> {
    let trusted = PublicKey::from_file(key)
        .map_err(|source| Untrusted::Key { path: key.to_owned(), source })?;
    let unusable = |source| Untrusted::Signature { path: signature.to_owned(), source };
    let signature = Signature::from_file(signature).map_err(unusable)?;
    // Without the legacy form, which is for files that need not be hashed first.
    match trusted.verify(file, &signature, false) {
        Ok(()) => Ok(signature.trusted_comment().to_owned()),
        Err(Error::UnexpectedKeyId) => Err(Untrusted::OtherKey(key.to_owned())),
        Err(Error::InvalidSignature) => Err(Untrusted::Changed),
        Err(source) => Err(unusable(source)),
    }
}
