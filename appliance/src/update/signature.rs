//! Who made an update: a minisign signature beside the file, by the key that the running image holds.

use crate::files;
use minisign_verify::{Error, PublicKey, Signature, StreamVerifier};
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

/// Who may have signed, and what somebody has signed.
pub(crate) struct Claim {
    trusted: PublicKey,
    trusted_path: PathBuf,
    signature: Signature,
    signature_path: PathBuf,
}

/// Hears a file, and knows at its end whether it is the one that was signed.
pub(crate) struct Listener<'a> {
    claim: &'a Claim,
    verifier: StreamVerifier<'a>,
}

// === impl Claim ===

impl Claim {
    /// Reads both files.
    pub(crate) fn read(signature: &Path, key: &Path) -> Result<Self, Untrusted> {
        let trusted = text(key)
            .and_then(|text| PublicKey::decode(&text))
            .map_err(|source| Untrusted::Key { path: key.to_owned(), source })?;
        let unusable = |source| Untrusted::Signature { path: signature.to_owned(), source };
        let claim = Claim {
            trusted,
            trusted_path: key.to_owned(),
            signature: text(signature)
                .and_then(|text| Signature::decode(&text))
                .map_err(unusable)?,
            signature_path: signature.to_owned(),
        };
        // Before anything is taken in.
        claim.listen().map(|_| ())?;
        Ok(claim)
    }

    /// Begins to hear the file.
    pub(crate) fn listen(&self) -> Result<Listener<'_>, Untrusted> {
        match self.trusted.verify_stream(&self.signature) {
            Ok(verifier) => Ok(Listener { claim: self, verifier }),
            Err(Error::UnexpectedKeyId) => Err(Untrusted::OtherKey(self.trusted_path.clone())),
            // The legacy form, which has no use for files that are heard piece by piece.
            Err(source) => Err(self.unusable(source)),
        }
    }

    fn unusable(&self, source: Error) -> Untrusted {
        Untrusted::Signature { path: self.signature_path.clone(), source }
    }
}

fn text(path: &Path) -> Result<String, Error> {
    files::text(path).map_err(Error::IoError)
}

// === impl Listener ===

impl Listener<'_> {
    /// The next piece.
    pub(crate) fn hear(&mut self, piece: &[u8]) {
        self.verifier.update(piece);
    }

    /// The end; gives the comment that was signed with the file.
    pub(crate) fn finish(mut self) -> Result<String, Untrusted> {
        match self.verifier.finalize() {
            Ok(()) => Ok(self.claim.signature.trusted_comment().to_owned()),
            Err(Error::InvalidSignature) => Err(Untrusted::Changed),
            Err(source) => Err(self.claim.unusable(source)),
        }
    }
}
