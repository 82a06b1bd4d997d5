//! How the bridge shows who it is, and whom it trusts: files that are read again when they change.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Where the files are; the same for every appliance.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// A bearer token.
    pub token: Option<PathBuf>,
    /// PEM certificates that the appliances' certificates are checked against; none for those of the system.
    pub ca: Option<PathBuf>,
    /// PEM certificate chain and PEM key of the client.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// The files' contents; two that are equal need no new connections.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Contents {
    token: Option<String>,
    ca: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

/// A file cannot be used.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("the {what} is not usable: {why}")]
    Content {
        /// What it should be.
        what: &'static str,
        /// Why it is not.
        why: String,
    },
}

// === impl Files ===

impl Files {
    /// Reads them all. A token or key that is missing is an error, never an empty one.
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub fn read(&self) -> Result<Contents, CredentialsError> {
        let read = |path: &Path| {
            std::fs::read(path)
                .map(|bytes| unmarked(&bytes).to_vec())
                .map_err(|source| CredentialsError::Read { path: path.to_owned(), source })
        };
        let token = self.token.as_deref().map(read).transpose()?;
        let token = token.map(|bytes| text(&bytes)).transpose()?;
        let ca = self.ca.as_deref().map(read).transpose()?;
        let client = self.client.as_ref().map(|(c, k)| Ok((read(c)?, read(k)?))).transpose()?;
        Ok(Contents { token, ca, client })
    }
}

/// Without the byte order mark that some editors put in front (U+FEFF in UTF-8).
fn unmarked(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

fn text(bytes: &[u8]) -> Result<String, CredentialsError> {
    let bad = |why: &str| CredentialsError::Content { what: "token", why: why.to_owned() };
    let token = std::str::from_utf8(bytes).map_err(|_| bad("it is not text"))?.trim();
    if token.is_empty() {
        return Err(bad("the file is empty"));
    }
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(bad("it has characters that no header may have"));
    }
    Ok(token.to_owned())
}

// === impl Contents ===

impl Contents {
    /// Value of the `Authorization` header.
    #[must_use]
    pub fn authorization(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("Bearer {token}"))
    }

    /// What TLS connections are made with.
    ///
    /// # Errors
    /// A certificate or key that does not parse, or no certificate to trust.
    pub fn tls(&self) -> Result<ClientConfig, CredentialsError> {
        let bad = |what: &'static str, why: String| CredentialsError::Content { what, why };
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(pem) => {
                for der in CertificateDer::pem_slice_iter(pem) {
                    let der = der.map_err(|e| bad("CA file", e.to_string()))?;
                    roots.add(der).map_err(|e| bad("CA file", e.to_string()))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            let why = "it has no certificate; name the appliances' CA with --ca-file".to_owned();
            return Err(bad("set of trusted certificates", why));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| bad("TLS configuration", e.to_string()))?
            .with_root_certificates(roots);
        let Some((chain, key)) = &self.client else { return Ok(builder.with_no_client_auth()) };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|e| bad("client certificate", e.to_string()))?;
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|e| bad("client key", e.to_string()))?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|e| bad("client certificate", e.to_string()))
    }
}

impl std::fmt::Debug for Contents {
    /// Never shows secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_trimmed_and_never_empty() {
        for (bytes, token) in [
            (&b"abc\n"[..], Some("abc")),
            (b"  ", None),
            (b"", None),
            (b"a b", None),
            (b"a\nb", None),
            (b"\xff", None),
            (b"\xef\xbb\xbfabc\r\n\r\n", Some("abc")),
            (b"\xff\xfea\0", None),
        ] {
            let bytes = unmarked(bytes);
            assert_eq!(text(bytes).ok().as_deref(), token, "{bytes:?}");
        }
    }

    #[test]
    fn without_anything_to_trust_there_is_no_tls() {
        let contents = Contents { ca: Some(b"nothing".to_vec()), ..Contents::default() };
        assert!(contents.tls().unwrap_err().to_string().contains("--ca-file"));
    }
}
