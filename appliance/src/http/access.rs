//! Who may talk to the API from outside: tokens and client certificates, read again when their files change.

use crate::config::{ApiTls, ApiToken};
use crate::files;
use anyhow::{Context as _, bail};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use subtle::ConstantTimeEq as _;

/// Shortest token: what a machine makes is longer, what a person guesses is shorter.
const MIN_TOKEN: usize = 12;

/// What is read from the files at one moment.
pub(crate) struct Access {
    /// Made of the next two.
    pub(super) tls: Arc<ServerConfig>,
    /// Certificate and key.
    identity: Arc<dyn ResolvesServerCert>,
    /// Whose certificates count.
    clients: Arc<dyn ClientCertVerifier>,
    tokens: Vec<Token>,
    stamps: Vec<Option<SystemTime>>,
    /// Files that cannot be used as they are, and why.
    pub(crate) problems: Vec<String>,
}

struct Token {
    name: String,
    secret: Vec<u8>,
    sources: Vec<String>,
}

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Somebody on this machine.
    Local,
    /// Who has a client certificate that our authority signed.
    Certificate,
    /// Who has this token.
    Token {
        /// Its name.
        name: String,
        /// The sources it may write to; empty for all.
        sources: Vec<String>,
    },
}

// === impl Access ===

impl Access {
    /// Reads every file.
    ///
    /// # Errors
    /// When TLS cannot be served. A token that cannot be read is nobody's.
    pub(crate) fn read(config: &ApiTls) -> anyhow::Result<Self> {
        let stamps = stamps(config);
        let (identity, clients) = (identity(config)?, clients(config)?);
        let tls = server(&identity, &clients)?;
        let mut problems = Vec::new();
        let tokens = tokens(config, &mut problems);
        Ok(Access { tls, identity, clients, tokens, stamps, problems })
    }

    /// Reads every file again, each for itself: a certificate that cannot be used stays as it was and keeps no token in
    /// force. A token that cannot be read is nobody's.
    pub(crate) fn read_again(&self, config: &ApiTls) -> Self {
        let stamps = stamps(config);
        let mut problems = Vec::new();
        let identity = or_old(identity(config), &self.identity, &mut problems);
        let clients = or_old(clients(config), &self.clients, &mut problems);
        let tls = or_old(server(&identity, &clients), &self.tls, &mut problems);
        let tokens = tokens(config, &mut problems);
        Access { tls, identity, clients, tokens, stamps, problems }
    }

    /// True when a file is not as it was when it was read, or could not be used: it may have been read half written.
    pub(crate) fn is_stale(&self, config: &ApiTls) -> bool {
        !self.problems.is_empty() || self.stamps != stamps(config)
    }

    /// Whose token this is. Every token is compared, and each in constant time.
    pub(super) fn bearer(&self, secret: &str) -> Option<Caller> {
        let matches = |token: &&Token| bool::from(token.secret.ct_eq(secret.as_bytes()));
        let found: Vec<&Token> = self.tokens.iter().filter(matches).collect();
        found
            .first()
            .map(|token| Caller::Token { name: token.name.clone(), sources: token.sources.clone() })
    }
}

// === impl Caller ===

impl Caller {
    /// Whether it may write to a source.
    pub(super) fn may_write(&self, source: &str) -> bool {
        match self {
            Caller::Local | Caller::Certificate => true,
            Caller::Token { sources, .. } => {
                sources.is_empty() || sources.iter().any(|name| name == source)
            }
        }
    }
}

fn stamps(config: &ApiTls) -> Vec<Option<SystemTime>> {
    let tokens = config.tokens.iter().map(|token| &token.file);
    let files = [&config.certificate, &config.key].into_iter().chain(&config.client_ca);
    files
        .chain(tokens)
        .map(|file| std::fs::metadata(file).and_then(|m| m.modified()).ok())
        .collect()
}

fn read_token(token: &ApiToken) -> anyhow::Result<Token> {
    let text = files::text(&token.file)
        .with_context(|| format!("cannot read {}", token.file.display()))?;
    let secret = text.trim();
    if secret.len() < MIN_TOKEN || secret.contains(char::is_whitespace) {
        bail!("{} must hold one line of at least {MIN_TOKEN} characters", token.file.display());
    }
    let (name, sources) = (token.name.clone(), token.sources.clone());
    Ok(Token { name, secret: secret.as_bytes().to_vec(), sources })
}

fn tokens(config: &ApiTls, problems: &mut Vec<String>) -> Vec<Token> {
    let usable = |token: &ApiToken| {
        let refused = |error| problems.push(format!("token {}: {error:#}", token.name));
        read_token(token).map_err(refused).ok()
    };
    config.tokens.iter().filter_map(usable).collect()
}

/// What was read, or what is in force and why it stays.
fn or_old<T: ?Sized>(
    read: anyhow::Result<Arc<T>>,
    old: &Arc<T>,
    problems: &mut Vec<String>,
) -> Arc<T> {
    read.unwrap_or_else(|error| {
        problems.push(format!("api.tls: what was read before stays in force: {error:#}"));
        Arc::clone(old)
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn identity(config: &ApiTls) -> anyhow::Result<Arc<dyn ResolvesServerCert>> {
    let pem = files::bytes(&config.key)
        .with_context(|| format!("cannot use the key {}", config.key.display()))?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .with_context(|| format!("cannot use the key {}", config.key.display()))?;
    let certified = CertifiedKey::from_der(certificates(&config.certificate)?, key, &provider())
        .with_context(|| format!("cannot use the certificate {}", config.certificate.display()))?;
    Ok(Arc::new(SingleCertAndKey::from(certified)))
}

fn clients(config: &ApiTls) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let Some(file) = &config.client_ca else { return Ok(WebPkiClientVerifier::no_client_auth()) };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).with_context(|| format!("{}", file.display()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    Ok(verifier.allow_unauthenticated().build()?)
}

fn server(
    identity: &Arc<dyn ResolvesServerCert>,
    clients: &Arc<dyn ClientCertVerifier>,
) -> anyhow::Result<Arc<ServerConfig>> {
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::clone(clients))
        .with_cert_resolver(Arc::clone(identity));
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let cannot = || format!("cannot read certificates from {}", file.display());
    let pem = files::bytes(file).with_context(cannot)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.with_context(cannot)?;
    if all.is_empty() {
        bail!("{} holds no certificate in PEM", file.display());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::fs::{remove_file, write};

    /// Certificate, key and two tokens.
    fn files(scratch: &Scratch) -> ApiTls {
        let at = |name: &str| scratch.path().join(name);
        let made = rcgen::generate_simple_self_signed(["appliance".to_owned()]).unwrap();
        write(at("crt"), made.cert.pem()).unwrap();
        write(at("key"), made.signing_key.serialize_pem()).unwrap();
        let token = |name: &str| {
            write(at(name), format!("the-token-of-{name}\n")).unwrap();
            let (sources, prefixes) = (Vec::new(), Vec::new());
            ApiToken { name: name.to_owned(), file: at(name), sources, prefixes }
        };
        ApiTls {
            listen: "127.0.0.1:0".parse().unwrap(),
            certificate: at("crt"),
            key: at("key"),
            client_ca: None,
            tokens: vec![token("east"), token("west")],
        }
    }

    fn lets_in(access: &Access) -> [bool; 2] {
        ["the-token-of-east", "the-token-of-west"].map(|secret| access.bearer(secret).is_some())
    }

    #[test]
    fn a_token_is_revoked_although_the_certificate_cannot_be_read() {
        let scratch = Scratch::new();
        let config = files(&scratch);
        let before = Access::read(&config).unwrap();
        assert_eq!((lets_in(&before), before.is_stale(&config)), ([true, true], false));
        remove_file(&config.key).unwrap();
        write(&config.tokens[0].file, "quite-another-token").unwrap();
        assert!(before.is_stale(&config));
        let after = before.read_again(&config);
        assert_eq!(lets_in(&after), [false, true]);
        assert!(Arc::ptr_eq(&after.identity, &before.identity), "the certificate stays");
        let [problem] = &after.problems[..] else { panic!("{:?}", after.problems) };
        assert!(problem.contains("stays in force: cannot use the key"), "{problem}");
        assert!(after.is_stale(&config), "until it is mended");
        assert!(Access::read(&config).is_err(), "there is nothing to fall back on at the start");
    }

    #[test]
    fn what_editors_do_to_files_is_no_matter() {
        let scratch = Scratch::new();
        let config = files(&scratch);
        let before = Access::read(&config).unwrap();
        let edited =
            [&config.certificate, &config.key, &config.tokens[0].file, &config.tokens[1].file];
        for file in edited {
            let text = std::fs::read_to_string(file).unwrap().replace('\n', "\r\n");
            write(file, format!("\u{feff}{text}\r\n\r\n")).unwrap();
        }
        let config = ApiTls { client_ca: Some(config.certificate.clone()), ..config };
        let after = Access::read(&config).unwrap();
        assert_eq!((lets_in(&after), &after.problems), (lets_in(&before), &before.problems));
        write(&config.tokens[0].file, b"\xff\xfet\0o\0k\0").unwrap();
        let after = Access::read(&config).unwrap();
        assert!(after.problems[0].contains("UTF-16"), "{:?}", after.problems);
    }

    #[test]
    fn a_new_certificate_is_used_although_a_token_cannot_be_read() {
        let scratch = Scratch::new();
        let config = files(&scratch);
        let before = Access::read(&config).unwrap();
        files(&scratch);
        remove_file(&config.tokens[1].file).unwrap();
        let after = before.read_again(&config);
        assert_eq!(lets_in(&after), [true, false], "a token without a file is nobody's");
        assert!(!Arc::ptr_eq(&after.identity, &before.identity));
        assert!(after.problems[0].starts_with("token west:"), "{:?}", after.problems);
        files(&scratch);
        let mended = after.read_again(&config);
        assert_eq!((lets_in(&mended), mended.problems), ([true, true], Vec::new()));
    }
}
