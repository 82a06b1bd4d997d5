//! Who may talk to the API from outside: tokens and client certificates, read again when their files change.

use crate::config::{ApiTls, ApiToken};
use anyhow::{Context as _, bail};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use subtle::ConstantTimeEq as _;

/// Shortest token: what a machine makes is longer, what a person guesses is shorter.
const MIN_TOKEN: usize = 12;

/// What is read from the files at one moment.
pub(crate) struct Access {
    /// Certificate and key, and whose certificates count.
    pub(super) tls: Arc<ServerConfig>,
    tokens: Vec<Token>,
    stamps: Vec<Option<SystemTime>>,
    /// Tokens that nobody can have at the moment, and why.
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
        let tls = Arc::new(server_config(config)?);
        let mut problems = Vec::new();
        let mut tokens = Vec::new();
        for token in &config.tokens {
            match read_token(token) {
                Ok(token) => tokens.push(token),
                Err(error) => problems.push(format!("token {}: {error:#}", token.name)),
            }
        }
        Ok(Access { tls, tokens, stamps, problems })
    }

    /// True when a file is not as it was when it was read.
    pub(crate) fn is_stale(&self, config: &ApiTls) -> bool {
        self.stamps != stamps(config)
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
    let text = std::fs::read_to_string(&token.file)
        .with_context(|| format!("cannot read {}", token.file.display()))?;
    let secret = text.trim();
    if secret.len() < MIN_TOKEN || secret.contains(char::is_whitespace) {
        bail!("{} must hold one line of at least {MIN_TOKEN} characters", token.file.display());
    }
    let (name, sources) = (token.name.clone(), token.sources.clone());
    Ok(Token { name, secret: secret.as_bytes().to_vec(), sources })
}

fn server_config(config: &ApiTls) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots.add(certificate).with_context(|| format!("{}", file.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&config.key)
        .with_context(|| format!("cannot use the key {}", config.key.display()))?;
    let mut server = builder
        .with_single_cert(certificates(&config.certificate)?, key)
        .with_context(|| format!("cannot use the certificate {}", config.certificate.display()))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(server)
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>();
    let all =
        read().with_context(|| format!("cannot read certificates from {}", file.display()))?;
    if all.is_empty() {
        bail!("{} holds no certificate in PEM", file.display());
    }
    Ok(all)
}
