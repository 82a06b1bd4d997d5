//! The cluster's API as tests use it: objects as JSON over plain HTTP, and raw watches with a clock.
//!
//! The way there is `kubectl proxy` in the control plane's namespace, so that neither TLS nor a client library stands
//! between a test and what the API server says.

use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::lab::{Netns, until};

/// Longest silence of an answer; a watch is never silent for long, because the API server sends bookmarks.
const PATIENCE: Duration = Duration::from_secs(90);

/// A way to the API.
#[derive(Clone, Debug)]
pub struct Api {
    ns: Netns,
    at: SocketAddr,
}

/// How a change is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    /// RFC 7386.
    Merge,
    /// RFC 6902.
    Json,
    /// Server-side apply by the manager `lab`, with force.
    Apply,
}

/// What the API server answered when it refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Its message.
    pub message: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the API server answered {}: {}", self.status, self.message)
    }
}

impl std::error::Error for Refusal {}

impl Api {
    pub(super) fn new(ns: &Netns, at: SocketAddr) -> Self {
        Self { ns: ns.clone(), at }
    }

    /// The body of a GET as text.
    ///
    /// # Errors
    /// As [`Api::send`].
    pub fn get(&self, path: &str) -> Result<String> {
        self.send("GET", path, None)
    }

    /// An object, or `None` when there is none.
    ///
    /// # Errors
    /// As [`Api::send`].
    pub fn find(&self, path: &str) -> Result<Option<Value>> {
        match self.get(path) {
            Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
            Err(error) if error.downcast_ref::<Refusal>().is_some_and(|no| no.status == 404) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// An object.
    ///
    /// # Errors
    /// As [`Api::send`], also when there is none.
    pub fn object(&self, path: &str) -> Result<Value> {
        self.find(path)?.with_context(|| format!("no {path}"))
    }

    /// The objects of a list.
    ///
    /// # Errors
    /// As [`Api::send`].
    pub fn list(&self, path: &str) -> Result<Vec<Value>> {
        let list = self.object(path)?;
        Ok(list.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// Makes an object in a collection.
    ///
    /// # Errors
    /// As [`Api::send`].
    pub fn create(&self, collection: &str, object: &Value) -> Result<Value> {
        let text = self.send("POST", collection, Some(("application/json", object)))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Changes an object.
    ///
    /// # Errors
    /// As [`Api::send`].
    pub fn patch(&self, path: &str, how: Patch, change: &Value) -> Result<Value> {
        let (kind, path) = match how {
            Patch::Merge => ("application/merge-patch+json", path.to_owned()),
            Patch::Json => ("application/json-patch+json", path.to_owned()),
            Patch::Apply => {
                ("application/apply-patch+yaml", format!("{path}?fieldManager=lab&force=true"))
            }
        };
        let text = self.send("PATCH", &path, Some((kind, change)))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Deletes an object (or, by a collection's path, all in it); none is no error.
    ///
    /// # Errors
    /// As [`Api::send`].
    pub fn delete(&self, path: &str) -> Result<()> {
        let now = json!({ "propagationPolicy": "Background" });
        match self.send("DELETE", path, Some(("application/json", &now))) {
            Err(error) if error.downcast_ref::<Refusal>().is_none_or(|no| no.status != 404) => {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Waits until there is no such object.
    ///
    /// # Errors
    /// When it is there at the deadline.
    pub fn wait_gone(&self, path: &str, deadline: Duration) -> Result<Duration> {
        until(&format!("{path} to be gone"), deadline, || match self.find(path)? {
            None => Ok(()),
            Some(object) => bail!("{}", object.get("metadata").unwrap_or(&object)),
        })
        .map(|((), took)| took)
    }

    /// Sends one request and returns the answer's body.
    ///
    /// # Errors
    /// A [`Refusal`] when the answer is not a success, otherwise as the socket says.
    pub fn send(&self, method: &str, path: &str, body: Option<(&str, &Value)>) -> Result<String> {
        let (status, mut answer) = self.open(method, path, body)?;
        let mut text = String::new();
        answer.read_to_string(&mut text).with_context(|| format!("{method} {path}"))?;
        if !(200..300).contains(&status) {
            let said: Option<Value> = serde_json::from_str(&text).ok();
            let message =
                said.as_ref().and_then(|said| said.get("message")?.as_str()).unwrap_or(&text);
            let refusal = Refusal { status, message: message.to_owned() };
            return Err(anyhow::Error::new(refusal).context(format!("{method} {path}")));
        }
        Ok(text)
    }

    /// Watches a collection from now on (with everything that is there first, as `ADDED`).
    ///
    /// # Errors
    /// As [`Api::send`].
    pub fn watch(&self, collection: &str) -> Result<Watch> {
        let mark = if collection.contains('?') { '&' } else { '?' };
        let path = format!("{collection}{mark}watch=true&allowWatchBookmarks=true");
        let (status, mut answer) = self.open("GET", &path, None)?;
        if status != 200 {
            let mut message = String::new();
            answer.read_to_string(&mut message)?;
            return Err(Refusal { status, message }.into());
        }
        Ok(Watch { lines: BufReader::new(answer) })
    }

    fn open(&self, method: &str, path: &str, body: Option<(&str, &Value)>) -> Result<(u16, Body)> {
        let stream = self
            .ns
            .run(|| TcpStream::connect_timeout(&self.at, Duration::from_secs(5)))?
            .context("connecting to the way to the API")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.at);
        if let Some((kind, value)) = body {
            let text = value.to_string();
            request +=
                &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        } else {
            request += "\r\n";
        }
        (&stream).write_all(request.as_bytes())?;
        read_head(BufReader::new(stream)).with_context(|| format!("{method} {path}"))
    }
}

fn read_head(mut reader: BufReader<TcpStream>) -> Result<(u16, Body)> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.with_context(|| format!("no status in {line:?}"))?;
    let mut framing = Framing::Rest;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok((status, Body { reader, framing }));
        }
        let lower = line.trim().to_ascii_lowercase();
        if let Some(length) = lower.strip_prefix("content-length:") {
            framing = Framing::Length(length.trim().parse()?);
        } else if lower.starts_with("transfer-encoding:") && lower.ends_with("chunked") {
            framing = Framing::Chunk(0);
        }
    }
}

/// Where the body of an answer ends.
#[derive(Debug)]
enum Framing {
    /// With the connection.
    Rest,
    /// After so many bytes.
    Length(usize),
    /// With an empty chunk; so much is left of this one.
    Chunk(usize),
}

/// The body of an answer as it arrives.
#[derive(Debug)]
struct Body {
    reader: BufReader<TcpStream>,
    framing: Framing,
}

impl Body {
    /// Reads on to the next chunk and returns its length.
    fn next_chunk(&mut self) -> io::Result<usize> {
        let mut line = String::new();
        // The end of the chunk before is an empty line.
        while line.trim().is_empty() {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                return Ok(0);
            }
        }
        usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = match self.framing {
            Framing::Rest => return self.reader.read(buffer),
            Framing::Length(left) => left,
            Framing::Chunk(0) => {
                let length = self.next_chunk()?;
                if length == 0 {
                    self.framing = Framing::Length(0);
                }
                length
            }
            Framing::Chunk(left) => left,
        };
        let wanted = left.min(buffer.len());
        let read = self.reader.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        self.framing = match self.framing {
            Framing::Chunk(_) => Framing::Chunk(left - read),
            _ => Framing::Length(left - read),
        };
        Ok(read)
    }
}

/// One event of a watch.
#[derive(Clone, Debug)]
pub struct Event {
    /// When this process read it.
    pub at: Instant,
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub kind: String,
    /// The object.
    pub object: Value,
}

/// A watch; iterate over its events. It ends when the API server ends it.
#[derive(Debug)]
pub struct Watch {
    lines: BufReader<Body>,
}

impl Watch {
    /// Reads events until `wanted` makes something of one.
    ///
    /// # Errors
    /// When the watch ends before.
    pub fn find<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> Result<(T, Instant)> {
        for event in self {
            let event = event?;
            if let Some(found) = wanted(&event) {
                return Ok((found, event.at));
            }
        }
        bail!("the watch ended")
    }
}

impl Iterator for Watch {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => None,
            Err(error) => Some(Err(error.into())),
            Ok(_) => Some(event(&line)),
        }
    }
}

fn event(line: &str) -> Result<Event> {
    let at = Instant::now();
    let mut value: Value = serde_json::from_str(line).with_context(|| format!("event {line:?}"))?;
    let kind = value.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Event { at, kind, object: value.get_mut("object").map(Value::take).unwrap_or_default() })
}
