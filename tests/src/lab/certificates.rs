//! Certificates of the lab: one authority, and a certificate for each server.

use std::path::Path;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// A certificate authority that lives as long as the lab.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// A new one of this name.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)
            .context("making a certificate authority")?;
        Ok(Self { issuer })
    }

    /// Its certificate as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes `<name>.crt` and `<name>.key` for a server of these names and addresses.
    ///
    /// # Errors
    /// When a name is none, or a file cannot be written.
    pub fn server(&self, dir: &Path, name: &str, subjects: &[&str]) -> Result<()> {
        self.issue(dir, name, subjects, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Writes `<name>.crt` and `<name>.key` for a client.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn client(&self, dir: &Path, name: &str) -> Result<()> {
        self.issue(dir, name, &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        dir: &Path,
        name: &str,
        subjects: &[&str],
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<()> {
        let subjects: Vec<String> = subjects.iter().map(|&subject| subject.to_owned()).collect();
        let mut params = CertificateParams::new(subjects)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        std::fs::write(dir.join(format!("{name}.crt")), certificate.pem())?;
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }
}

/// Writes a new key pair to `<name>.key` and `<name>.pub`.
///
/// # Errors
/// When there is no randomness, or a file cannot be written.
pub fn key_pair(dir: &Path, name: &str) -> Result<()> {
    let key = KeyPair::generate()?;
    std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?;
    std::fs::write(dir.join(format!("{name}.pub")), key.public_key_pem())?;
    Ok(())
}
