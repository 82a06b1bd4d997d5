//! What cloud-init's files of a CIDATA disk (NoCloud) say, as files that the image understands: SSH keys, the host's name,
//! the network. Whoever has that format at hand (Proxmox, libvirt, Terraform) gets in without another one.
//!
//! A file that is there already was given by name and stays. A mistake in one of the three leaves the others alone.

mod network;
mod user_data;

use crate::files;
use serde_json::Value;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

/// What a document says that is not understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Mistake {
    /// No YAML, or not of the shape that it must have.
    #[error("{0}")]
    Shape(String),
    /// A script, most likely.
    #[error("it is neither a #cloud-config nor a sluice.toml, and programs are not run")]
    Program,
    /// The network's format.
    #[error("its version is {0}; 1 and 2 are understood")]
    Version(Value),
    /// Something that this image has no words for.
    #[error(
        "{0:?} is not understood; give files of systemd-networkd (*.network, *.netdev) in its place"
    )]
    Kind(String),
    /// A card that is not named: taken for one, all of them would get its addresses.
    #[error("the card {0:?} is matched by nothing; give its macaddress, its name or its driver")]
    NoCard(String),
    /// A value that is not what it should be.
    #[error("{value:?} is no {wanted}")]
    Value {
        /// As it stands there.
        value: String,
        /// What is expected.
        wanted: &'static str,
    },
    /// Files.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What came of one document: files that were made from it.
pub(crate) type Outcome = (&'static str, Result<Vec<String>, Mistake>);

/// Takes in what lies in `dir`, and puts what it says beside it.
pub(crate) fn apply(dir: &Path) -> Vec<Outcome> {
    type Take = fn(&Path, &str) -> Result<Vec<String>, Mistake>;
    let documents: [(&str, Take); 3] = [
        ("user-data", user_data::take),
        ("meta-data", user_data::take_meta),
        ("network-config", network::take),
    ];
    let outcome = |(name, take): (&'static str, Take)| match files::text(&dir.join(name)) {
        Ok(text) => Some((name, take(dir, &text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some((name, Err(error.into()))),
    };
    documents.into_iter().filter_map(outcome).collect()
}

fn parse(text: &str) -> Result<Value, Mistake> {
    // A host may be called `y`; where a yes is meant, `values::flag` knows the words.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| Mistake::Shape(error.to_string()))
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Mistake> {
    serde_json::from_value(value).map_err(|error| Mistake::Shape(error.to_string()))
}

/// Writes a file unless it is there; returns its name if it was written.
fn put(dir: &Path, name: &str, content: &str) -> io::Result<Option<String>> {
    if content.is_empty() {
        return Ok(None);
    }
    // Whatever has the name, a link to nowhere too, was put there by somebody.
    match fs::File::create_new(dir.join(name)) {
        Ok(mut file) => file.write_all(content.as_bytes()).map(|()| Some(name.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    /// As Proxmox writes them.
    const USER_DATA: &str = "#cloud-config
hostname: edge-1
manage_etc_hosts: true
fqdn: edge-1.example.net
ssh_authorized_keys:
  - ssh-ed25519 AAAA1 one
chpasswd:
  expire: False
users:
  - default
  - name: root
    ssh_authorized_keys: [ \"ssh-ed25519 AAAA2 two\" ]
package_upgrade: true
";

    fn outcomes(files: &[(&str, &str)]) -> (Scratch, Vec<String>) {
        let scratch = Scratch::new();
        for (name, text) in files {
            fs::write(scratch.path().join(name), text).unwrap();
        }
        let words = apply(scratch.path()).into_iter().map(|(name, outcome)| match outcome {
            Ok(made) => format!("{name}: {}", made.join(" ")),
            Err(error) => format!("{name}: {error}"),
        });
        let words = words.collect();
        (scratch, words)
    }

    fn content(scratch: &Scratch, name: &str) -> String {
        fs::read_to_string(scratch.path().join(name)).unwrap()
    }

    #[test]
    fn keys_and_names_are_taken() {
        let (scratch, words) = outcomes(&[
            ("user-data", USER_DATA),
            ("meta-data", "instance-id: x\nlocal-hostname: y\n"),
        ]);
        assert_eq!(words, ["user-data: authorized_keys hostname", "meta-data: "]);
        let keys = "ssh-ed25519 AAAA1 one\nssh-ed25519 AAAA2 two\n";
        assert_eq!(content(&scratch, "authorized_keys"), keys);
        assert_eq!(content(&scratch, "hostname"), "edge-1\n");
    }

    #[test]
    fn user_data_may_be_the_configuration_itself() {
        let text = "name = \"edge-1\"\n";
        let (scratch, words) =
            outcomes(&[("user-data", text), ("meta-data", "{local-hostname: edge-2}")]);
        assert_eq!(words, ["user-data: sluice.toml", "meta-data: hostname"]);
        assert_eq!(content(&scratch, "sluice.toml"), text);
        assert_eq!(content(&scratch, "hostname"), "edge-2\n");
    }

    #[test]
    fn what_editors_do_to_files_is_no_matter() {
        let edited = |text: &str| format!("\u{feff}{}\r\n", text.replace('\n', "\r\n"));
        let (user, meta) = (edited(USER_DATA), edited("local-hostname: y\n"));
        let (scratch, words) = outcomes(&[("user-data", &user), ("meta-data", &meta)]);
        assert_eq!(words, ["user-data: authorized_keys hostname", "meta-data: "]);
        let keys = "ssh-ed25519 AAAA1 one\nssh-ed25519 AAAA2 two\n";
        assert_eq!(content(&scratch, "authorized_keys"), keys);
        let network = edited("version: 2\nethernets:\n  eth0:\n    addresses: [ 192.0.2.2/24 ]\n");
        let (scratch, words) = outcomes(&[("network-config", &network)]);
        assert!(words[0].contains("network"), "{words:?}");
        assert!(fs::read_dir(scratch.path()).unwrap().count() == 2, "{words:?}");
        let (_scratch, words) = outcomes(&[("user-data", &edited("#!/bin/sh\n"))]);
        assert!(words[0].contains("programs are not run"), "{words:?}");
    }

    #[test]
    fn what_is_there_already_stays() {
        let (scratch, words) = outcomes(&[
            ("user-data", USER_DATA),
            ("authorized_keys", "mine\n"),
            ("hostname", "mine\n"),
            ("lan.network", "[Match]\n"),
            ("network-config", "version: 2\nethernets: {}\n"),
        ]);
        assert_eq!(words, ["user-data: ", "network-config: "]);
        assert_eq!(content(&scratch, "authorized_keys"), "mine\n");
    }

    #[test]
    fn a_mistake_leaves_the_others_alone() {
        let (scratch, words) = outcomes(&[
            ("user-data", "#cloud-config\nhostname: [\n"),
            ("meta-data", "local-hostname: edge 1\n"),
            ("network-config", "version: 3\n"),
        ]);
        let [user, meta, network] = words.as_slice() else { panic!("{words:?}") };
        assert!(user.starts_with("user-data: ") && user.len() > 15, "{user}");
        assert_eq!(meta, "meta-data: \"edge 1\" is no host name");
        assert_eq!(network, "network-config: its version is 3; 1 and 2 are understood");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 3);
        let (_scratch, words) = outcomes(&[("user-data", "#!/bin/sh\nreboot\n")]);
        assert_eq!(
            words,
            [
                "user-data: it is neither a #cloud-config nor a sluice.toml, and programs are not run"
            ]
        );
    }
}
