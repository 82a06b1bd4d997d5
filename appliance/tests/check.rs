//! `sluice check`, as an operator runs it.

#![expect(clippy::unwrap_used, reason = "a panic in a test's helper is the report")]

use std::path::PathBuf;
use std::process::{Command, Output};

/// A file with this text; removed when the test ends.
struct ConfigFile(PathBuf);

impl ConfigFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        ConfigFile(path)
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _best_effort = std::fs::remove_file(&self.0);
    }
}

fn sluice(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_example_is_right() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/sluice.example.toml");
    let output = sluice(&["check", "--config", example]);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(
        text(&output.stdout),
        format!("{example}: ok: 3 services, 5 VIPs, 5 backends, 1 BGP peer\n")
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn five_mistakes_are_shown_at_once() {
    let file = ConfigFile::new(
        "five",
        "nmae = \"edge\"\n[data-plane]\ninterfaces = \"eth0\"\n[[service]]\nname = \"web\"\n\
         vips = [\"203.0.113.10/24\"]\nport = 0\nprotocol = \"quic\"\n",
    );
    let path = file.0.display().to_string();
    let output = sluice(&["check", "--config", &path]);
    assert_eq!(text(&output.stdout), "");
    assert_eq!(
        text(&output.stderr).lines().collect::<Vec<_>>(),
        [
            format!("{path}: 5 mistakes").as_str(),
            "line 1: nmae: unknown key; write name",
            "line 3: data-plane.interfaces: is text, not a list; write interfaces = [ … ]",
            "line 6: service.web.vips: 203.0.113.10/24 is not an address; write 203.0.113.10",
            "line 7: service.web.port: 0 is out of range; write a number from 1 to 65535",
            "line 8: service.web.protocol: \"quic\" is not known; write \"tcp\", \"udp\" or \"sctp\"",
        ]
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_file_that_is_not_there() {
    let output = sluice(&["check", "--config", "/nonexistent/sluice.toml"]);
    assert_eq!(
        text(&output.stderr),
        "cannot read /nonexistent/sluice.toml: No such file or directory (os error 2)\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_daemon_does_not_start_with_mistakes() {
    let file = ConfigFile::new("run", "[data-plane]\ninterfaces = []\n");
    let path = file.0.display().to_string();
    let output = sluice(&["run", "--config", &path]);
    let expected =
        format!("sluice: {path}: 1 mistake\nline 2: data-plane.interfaces: selects no link");
    assert!(text(&output.stderr).starts_with(&expected), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_editors_do_to_the_file_is_no_matter() {
    let example = include_str!("../sluice.example.toml").replace('\n', "\r\n");
    let file = ConfigFile::new("edited", &format!("\u{feff}{example}\r\n\r\n"));
    let output = sluice(&["check", "--config", file.0.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let wide: Vec<u8> = "\u{feff}name = \"a\"".encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(&file.0, wide).unwrap();
    let output = sluice(&["check", "--config", file.0.to_str().unwrap()]);
    assert!(text(&output.stderr).contains("UTF-16; save it as UTF-8"), "{}", text(&output.stderr));
}

#[test]
fn no_text_of_the_file_is_obeyed_by_a_terminal() {
    let mistakes = "name = \"a\\u001b[2J\"\n[data-plane]\ninterfaces = [\"eth\\u202e0\"]\nattach = \"\\u009b31m\"\n\
                    \"\\u0007key\" = 1\n";
    let file = ConfigFile::new("obeyed", mistakes);
    let output = sluice(&["check", "--config", file.0.to_str().unwrap()]);
    let said = text(&output.stderr);
    assert!(
        !output.status.success() && said.contains("U+001B") && said.contains("U+202E"),
        "{said}"
    );
    assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
}
