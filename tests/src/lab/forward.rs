//! A way from the machine into a namespace: a TCP port here that leads to an address there.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::netns::Netns;

/// Listens on `listen` in the namespace of the caller and joins each connection with one to `to` inside `namespace`,
/// until the process ends. Returns the address it listens on.
///
/// # Errors
/// When it cannot listen.
pub fn forward(listen: SocketAddr, namespace: &Netns, to: SocketAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
    let at = listener.local_addr()?;
    let namespace = namespace.clone();
    std::thread::spawn(move || {
        for outside in listener.incoming().flatten() {
            let namespace = namespace.clone();
            std::thread::spawn(move || {
                // Whichever side fails, the browser sees a closed connection.
                drop(join(outside, &namespace, to));
            });
        }
    });
    Ok(at)
}

fn join(outside: TcpStream, namespace: &Netns, to: SocketAddr) -> Result<()> {
    let inside = namespace.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)))??;
    let (back_from, back_to) = (inside.try_clone()?, outside.try_clone()?);
    let back = std::thread::spawn(move || copy(back_from, back_to));
    copy(outside, inside)?;
    drop(back.join());
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    let copied = io::copy(&mut from, &mut to);
    // The other direction may have closed it already.
    drop(to.shutdown(Shutdown::Write));
    copied.map(drop)
}
