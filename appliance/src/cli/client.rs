//! Commands that ask a running appliance and print what it says.

use super::request::{Api, RequestError};
use super::{Cli, tables};
use crate::human;
use clap::{Args, CommandFactory, Subcommand, ValueEnum};
use clap_complete::Shell;
use serde::de::DeserializeOwned;
use sluice_api::{Backend, BgpPeer, BgpRoute, Service, SourceSummary, Status, Vip};
use std::io::{self, ErrorKind, Write};

/// Commands that ask a running appliance.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Show the appliance as a whole: readiness, problems, links, rates
    Status(Options),
    /// Show the services, or one of them
    #[command(after_help = "Examples:\n  sluice services\n  sluice services web -o json")]
    Services {
        /// Only this service
        name: Option<String>,
        #[command(flatten)]
        options: Options,
    },
    /// Show the backends of all services with their health
    Backends(Options),
    /// Show the virtual IPs
    Vips(Options),
    /// Show the bridges that say what should be, or forget one of them
    #[command(
        after_help = "Examples:\n  sluice sources\n  sluice sources forget prod\n  sluice sources forget --held"
    )]
    Sources {
        #[command(subcommand)]
        what: Option<Sources>,
        #[command(flatten)]
        options: Options,
    },
    /// Show BGP peers, or what is announced to them
    #[command(after_help = "Examples:\n  sluice bgp\n  sluice bgp routes -o json")]
    Bgp {
        #[command(subcommand)]
        what: Option<Bgp>,
        #[command(flatten)]
        options: Options,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  sluice completions bash > /etc/bash_completion.d/sluice")]
    Completions {
        /// The shell to complete in
        shell: Shell,
    },
}

/// What of BGP.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Bgp {
    /// Peers and their sessions (the default)
    Peers,
    /// What each session supports, and the last error of each kind
    Sessions,
    /// The announced set
    Routes,
}

/// What of sources.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Sources {
    /// Each source with its generation (the default)
    List,
    /// Forget a source that does not come back: its services are withdrawn and removed
    Forget {
        /// The source's name
        #[arg(required_unless_present = "held")]
        name: Option<String>,
        /// After the ledger was lost: wait for no further source, and remove what none has claimed
        #[arg(long, conflicts_with = "name")]
        held: bool,
    },
}

/// What all client commands take.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Where the appliance's API is
    #[arg(
        long,
        global = true,
        env = "SLUICE_API",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    api: Api,
    /// Tables for people, or the API's own JSON
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Aligned columns
    Table,
    /// Exactly what the API answers, indented
    Json,
}

/// Runs one client command.
///
/// # Errors
/// When the appliance does not answer or refuses, and when standard output is gone for another reason than a closed
/// pipe.
pub(crate) async fn run(command: ClientCommand) -> anyhow::Result<()> {
    let text = match command {
        ClientCommand::Status(options) => {
            ask(&options, "/api/v1/status", |status: &Status| tables::status(status)).await?
        }
        ClientCommand::Services { name: None, options } => {
            ask(&options, "/api/v1/services", |all: &Vec<Service>| tables::services(all)).await?
        }
        ClientCommand::Services { name: Some(name), options } => {
            let path = format!("/api/v1/services/{}", percent_encoded(&name));
            ask(&options, &path, tables::service).await?
        }
        ClientCommand::Backends(options) => {
            ask(&options, "/api/v1/backends", |all: &Vec<Backend>| tables::backends(all)).await?
        }
        ClientCommand::Vips(options) => {
            ask(&options, "/api/v1/vips", |all: &Vec<Vip>| tables::vips(all)).await?
        }
        ClientCommand::Sources { what: None | Some(Sources::List), options } => {
            let table = |all: &Vec<SourceSummary>| tables::sources(all);
            ask(&options, "/api/v1/sources", table).await?
        }
        ClientCommand::Sources { what: Some(Sources::Forget { name: None, .. }), options } => {
            options.api.delete("/api/v1/held").await?;
            "what no source has claimed is let go\n".to_owned()
        }
        ClientCommand::Sources {
            what: Some(Sources::Forget { name: Some(name), .. }),
            options,
        } => {
            options.api.delete(&format!("/api/v1/sources/{}", percent_encoded(&name))).await?;
            format!("source {} is forgotten\n", human::visible(&name))
        }
        ClientCommand::Bgp { what: None | Some(Bgp::Peers), options } => {
            ask(&options, "/api/v1/bgp/peers", |all: &Vec<BgpPeer>| tables::peers(all)).await?
        }
        ClientCommand::Bgp { what: Some(Bgp::Sessions), options } => {
            ask(&options, "/api/v1/bgp/peers", |all: &Vec<BgpPeer>| tables::sessions(all)).await?
        }
        ClientCommand::Bgp { what: Some(Bgp::Routes), options } => {
            ask(&options, "/api/v1/bgp/routes", |all: &Vec<BgpRoute>| tables::routes(all)).await?
        }
        // A script has tabs, and nothing from outside.
        ClientCommand::Completions { shell } => return Ok(write(&completions(shell))?),
    };
    print(&text)?;
    Ok(())
}

async fn ask<T: DeserializeOwned>(
    options: &Options,
    path: &str,
    table: impl Fn(&T) -> String,
) -> Result<String, RequestError> {
    Ok(match options.output {
        Output::Table => table(&options.api.read(path).await?),
        // What foreign texts hold was made visible where tables are made; in JSON it is written in JSON's own way.
        // Through a generic value, so that members a newer appliance adds are kept.
        Output::Json => human::visible_json(&format!(
            "{:#}\n",
            options.api.read::<serde_json::Value>(path).await?
        )),
    })
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sluice", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Prints lines; a terminal obeys nothing in them.
pub(super) fn print(text: &str) -> io::Result<()> {
    write(&human::visible_lines(text))
}

/// A reader that had enough (`| head`) is no failure.
fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// A path segment (RFC 3986 §3.3): everything but the unreserved characters is encoded.
fn percent_encoded(segment: &str) -> String {
    segment
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn parsed(line: &str) -> ClientCommand {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            super::super::Command::Client(command) => command,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_follow_the_last_word() {
        let ClientCommand::Bgp { what: Some(Bgp::Routes), options } =
            parsed("sluice bgp routes -o json --api http://127.0.0.1:9")
        else {
            panic!("not bgp routes")
        };
        assert_eq!(options.output, Output::Json);
        assert_eq!(options.api.to_string(), "http://127.0.0.1:9");
    }

    #[test]
    fn a_source_is_forgotten_by_its_name() {
        let forget = |line: &str| match parsed(line) {
            ClientCommand::Sources { what: Some(Sources::Forget { name, held }), .. } => {
                (name, held)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(forget("sluice sources forget prod"), (Some("prod".to_owned()), false));
        assert_eq!(forget("sluice sources forget --held"), (None, true));
        for line in ["sluice sources forget", "sluice sources forget prod --held"] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn plain_bgp_means_peers() {
        assert!(matches!(parsed("sluice bgp"), ClientCommand::Bgp { what: None, .. }));
    }

    #[test]
    fn wrong_addresses_are_refused_at_once() {
        for api in ["127.0.0.1:8080", "https://127.0.0.1", "http://", "http://x/y"] {
            let result = Cli::try_parse_from(["sluice", "status", "--api", api]);
            assert!(result.is_err(), "{api}");
        }
    }

    #[test]
    fn completions_know_the_commands() {
        let script = completions(Shell::Bash);
        for word in ["services", "backends", "completions", "--api"] {
            assert!(script.contains(word), "{word}");
        }
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(percent_encoded("web-1.2_~"), "web-1.2_~");
        assert_eq!(percent_encoded("a/b c?ü"), "a%2Fb%20c%3F%C3%BC");
    }
}
