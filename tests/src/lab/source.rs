//! What a bridge does to an appliance, done by curl: wishes and questions over TLS.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use super::certificates::Authority;
use super::http::Answer;
use super::{Lab, Netns};

/// Where the lab's appliances listen for bridges.
pub const URL: &str = "https://10.1.0.1:8443";
/// The token of [`section`].
pub const TOKEN: &str = "a-token-of-the-lab";

/// Somebody who talks to the API for bridges.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Where from.
    pub ns: Netns,
    /// Whose certificate is believed.
    pub authority: PathBuf,
    /// The bearer token, if any.
    pub token: Option<String>,
    /// Certificate and key, if any.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl Caller {
    /// One with the lab's token.
    pub fn new(ns: &Netns, lab: &Lab) -> Self {
        let authority = lab.dir().join("ca.crt");
        Self { ns: ns.clone(), authority, token: Some(TOKEN.to_owned()), certificate: None }
    }

    /// Sends a request and returns what was answered.
    ///
    /// # Errors
    /// When there is no answer, with curl's words.
    pub fn send(&self, method: &str, path: &str, body: Option<&str>) -> Result<Answer> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "40", "--request", method]);
        command.arg("--cacert").arg(&self.authority);
        if let Some(token) = &self.token {
            command.args(["--header", &format!("Authorization: Bearer {token}")]);
        }
        if let Some((certificate, key)) = &self.certificate {
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        if let Some(body) = body {
            command.args(["--header", "Content-Type: application/json", "--data", body]);
        }
        // The status comes last, on a line of its own.
        command.args(["--write-out", "\\n%{http_code}", &format!("{URL}{path}")]);
        let output = self.ns.prepare(command).output().context("starting curl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", said.trim());
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, status) = text.rsplit_once('\n').context("no status")?;
        Ok(Answer { status: status.parse()?, body: body.to_owned() })
    }

    /// Sends a wish and returns the report on it.
    ///
    /// # Errors
    /// When it is refused.
    pub fn wish(&self, method: &str, source: &str, body: &impl Serialize) -> Result<Value> {
        let body = serde_json::to_string(body)?;
        let answer = self.send(method, &format!("/api/v1/sources/{source}"), Some(&body))?;
        ensure!(answer.status == 200, "{method} answered {}: {}", answer.status, answer.body);
        Ok(serde_json::from_str(&answer.body)?)
    }

    /// The status with which a wish is refused, and the reason.
    ///
    /// # Errors
    /// When it is not refused.
    pub fn refused(&self, method: &str, source: &str, body: &str) -> Result<(u16, String)> {
        let answer = self.send(method, &format!("/api/v1/sources/{source}"), Some(body))?;
        ensure!(answer.status >= 400, "it was accepted: {}", answer.body);
        let problem: Value = serde_json::from_str(&answer.body)
            .with_context(|| format!("not problem+json: {}", answer.body))?;
        let detail = problem.get("detail").and_then(Value::as_str).unwrap_or_default();
        Ok((answer.status, detail.to_owned()))
    }

    /// The report on a source.
    ///
    /// # Errors
    /// When there is none.
    pub fn report(&self, source: &str) -> Result<Value> {
        let answer = self.send("GET", &format!("/api/v1/sources/{source}"), None)?;
        ensure!(answer.status == 200, "answered {}: {}", answer.status, answer.body);
        Ok(serde_json::from_str(&answer.body)?)
    }
}

/// The configuration's section for the API under TLS. Makes, once, what it names: an authority (`ca.crt`), certificates of
/// the appliance and of a client (`client.crt`), and the file of [`TOKEN`].
///
/// # Errors
/// When a file cannot be written.
pub fn section(lab: &Lab) -> Result<String> {
    let dir = lab.dir();
    if !dir.join("ca.crt").exists() {
        let authority = Authority::new("sluice-lab")?;
        authority.server(dir, "appliance", &["10.1.0.1", "2001:db8:1::1"])?;
        authority.client(dir, "client")?;
        std::fs::write(dir.join("token"), format!("{TOKEN}\n"))?;
        std::fs::write(dir.join("ca.crt"), authority.pem())?;
    }
    let at = |name: &str| dir.join(name).display().to_string();
    Ok(format!(
        "\n[api.tls]\nlisten = \"0.0.0.0:8443\"\ncertificate = \"{}\"\nkey = \"{}\"\nclient-ca = \"{}\"\n\n\
         [[api.tls.token]]\nname = \"lab\"\nfile = \"{}\"\n",
        at("appliance.crt"),
        at("appliance.key"),
        at("ca.crt"),
        at("token"),
    ))
}
