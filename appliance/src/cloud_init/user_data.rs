//! `user-data` and `meta-data`: of all that they can say, the SSH keys and the host's name.

use super::{Mistake, parse, put, read};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// What a document in cloud-init's format begins with.
const CLOUD_CONFIG: &str = "#cloud-config";

/// What programs and collections of documents begin with: nothing here runs them.
const NOT_OURS: [&str; 5] = ["#!", "#include", "#cloud-boothook", "Content-Type:", "MIME-Version:"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct UserData {
    hostname: Option<String>,
    ssh_authorized_keys: Option<Vec<String>>,
    users: Option<Vec<Value>>,
}

/// Whoever is named: there is only root here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    ssh_authorized_keys: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct MetaData {
    local_hostname: Option<String>,
}

/// Of a `#cloud-config` keys and name; anything else is `sluice.toml` itself.
pub(super) fn take(dir: &Path, text: &str) -> Result<Vec<String>, Mistake> {
    if NOT_OURS.iter().any(|beginning| text.starts_with(beginning)) {
        return Err(Mistake::Program);
    }
    if !text.starts_with(CLOUD_CONFIG) {
        return Ok(put(dir, "sluice.toml", text)?.into_iter().collect());
    }
    let UserData { hostname, ssh_authorized_keys, users } = read(parse(text)?)?;
    let mut keys = ssh_authorized_keys.unwrap_or_default();
    // The others are words, as `default`.
    for user in users.into_iter().flatten().filter(Value::is_object) {
        keys.extend(read::<User>(user)?.ssh_authorized_keys.unwrap_or_default());
    }
    let keys: String = keys.iter().map(|key| format!("{}\n", key.trim())).collect();
    let name = hostname.map(host_name).transpose()?.unwrap_or_default();
    let made = [put(dir, "authorized_keys", &keys)?, put(dir, "hostname", &name)?];
    Ok(made.into_iter().flatten().collect())
}

/// The name by which the host calls itself, where the user data does not say another.
pub(super) fn take_meta(dir: &Path, text: &str) -> Result<Vec<String>, Mistake> {
    let value = parse(text)?;
    // An empty document is in order: only that the file is there counts for others.
    if value.is_null() {
        return Ok(Vec::new());
    }
    let MetaData { local_hostname } = read(value)?;
    let name = local_hostname.map(host_name).transpose()?.unwrap_or_default();
    Ok(put(dir, "hostname", &name)?.into_iter().collect())
}

fn host_name(name: String) -> Result<String, Mistake> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(known) {
        return Err(Mistake::Value { value: name, wanted: "host name" });
    }
    Ok(format!("{name}\n"))
}
