//! A proxy between a client and a server that breaks what passes through it.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{sleep, spawn};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::shell::Done;

/// Which of the two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The connection is reset after this many bytes in one direction, over all connections
    /// since the fault was set. Once.
    CutAfter(Way, u64),
    /// The connection is reset where these bytes come from the client: before the server gets
    /// them, or after, so that only its answer is lost. Once.
    CutAt {
        /// What is waited for.
        text: Vec<u8>,
        /// Whether the server still gets it.
        delivered: bool,
    },
    /// Nothing passes any more, in neither direction; connections stay open.
    Stall,
    /// The server gets everything, the client nothing.
    HalfOpen,
    /// So many bytes per second, in each direction of each connection.
    Slow(u64),
}

#[derive(Debug)]
struct State {
    fault: Mutex<Fault>,
    /// Bytes since the fault was set.
    up: AtomicU64,
    down: AtomicU64,
    fired: AtomicU64,
    closed: AtomicBool,
}

/// Forwards to one server. Ends when dropped, with all its connections.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    upstream: Mutex<SocketAddr>,
    state: Arc<State>,
}

impl Proxy {
    /// In front of the server on this port of this machine.
    pub fn start(upstream: u16) -> Done<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let state = Arc::new(State {
            fault: Mutex::new(Fault::None),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            fired: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        let port = listener.local_addr()?.port();
        let proxy = Proxy { port, upstream: Mutex::new(local(upstream)), state };
        let proxy = Arc::new(proxy);
        let weak = Arc::downgrade(&proxy);
        spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Some(proxy)) = (client, weak.upgrade()) else { return };
                let upstream = *guard(&proxy.upstream);
                // A server that is down: the client sees its connection closed.
                if let Ok(server) = TcpStream::connect(upstream) {
                    join(&client, &server, &proxy.state);
                }
            }
        });
        Ok(proxy)
    }

    /// The port it listens on, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on this goes wrong, and the bytes are counted from zero.
    pub fn set(&self, fault: Fault) {
        let mut held = guard(&self.state.fault);
        self.state.up.store(0, Ordering::SeqCst);
        self.state.down.store(0, Ordering::SeqCst);
        *held = fault;
    }

    /// New connections go to the server on this port.
    pub fn point_to(&self, upstream: u16) {
        *guard(&self.upstream) = local(upstream);
    }

    /// How many connections were cut.
    pub fn fired(&self) -> u64 {
        self.state.fired.load(Ordering::SeqCst)
    }

    /// Bytes that went this way since the fault was set.
    pub fn bytes(&self, way: Way) -> u64 {
        self.state.count(way).load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts; it finds nobody to work for.
        let _ = TcpStream::connect(local(self.port));
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What becomes of some bytes.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Pass,
    Swallow,
    Wait,
    Trickle(u64),
    /// The first so many pass, then the connection is cut.
    CutBehind(usize),
}

impl State {
    fn count(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    /// Decides about bytes that came after `before` in the same direction of a connection.
    fn decide(&self, way: Way, before: &[u8], bytes: &[u8]) -> Fate {
        let mut fault = guard(&self.fault);
        let passed = self.count(way).fetch_add(bytes.len() as u64, Ordering::SeqCst);
        let cut = match &*fault {
            Fault::None => return Fate::Pass,
            Fault::Stall => return Fate::Wait,
            Fault::HalfOpen if way == Way::Down => return Fate::Swallow,
            Fault::HalfOpen => return Fate::Pass,
            Fault::Slow(rate) => return Fate::Trickle(*rate),
            Fault::CutAfter(which, limit) => {
                let left = limit.saturating_sub(passed);
                (*which == way && left < bytes.len() as u64).then_some(left as usize)
            }
            Fault::CutAt { text, delivered } => {
                let joined = [before, bytes].concat();
                let found = joined.windows(text.len()).position(|w| w == text);
                let cut = |at: usize| {
                    if *delivered { bytes.len() } else { at.saturating_sub(before.len()) }
                };
                found.filter(|_| way == Way::Up).map(cut)
            }
        };
        let Some(cut) = cut else { return Fate::Pass };
        *fault = Fault::None;
        self.fired.fetch_add(1, Ordering::SeqCst);
        Fate::CutBehind(cut)
    }
}

/// Pumps both directions of a connection, each in a thread of its own.
fn join(client: &TcpStream, server: &TcpStream, state: &Arc<State>) {
    for (way, from, to) in [(Way::Up, client, server), (Way::Down, server, client)] {
        let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
        // What waits must notice the end of the proxy.
        let _ = from.set_read_timeout(Some(Duration::from_millis(200)));
        let _ = to.set_nodelay(true);
        let state = state.clone();
        spawn(move || {
            // Both ends see a broken connection as one that is closed.
            let _ = pump(way, from.try_clone(), to.try_clone(), &state);
            let (client, server) = if way == Way::Up { (&from, &to) } else { (&to, &from) };
            cut(client, server);
        });
    }
}

/// The client sees a reset. The server reads what it was sent, then the end.
fn cut(client: &TcpStream, server: &TcpStream) {
    let _ = set_socket_linger(client, Some(Duration::ZERO));
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

/// Longer texts than this are not found where they fall between two reads.
const TAIL: usize = 64;

fn pump(
    way: Way,
    from: io::Result<TcpStream>,
    to: io::Result<TcpStream>,
    state: &State,
) -> io::Result<()> {
    let (mut from, mut to) = (from?, to?);
    let mut buffer = vec![0; 64 << 10];
    let mut tail: Vec<u8> = Vec::new();
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(e) if is_timeout(&e) && !state.closed.load(Ordering::SeqCst) => continue,
            Err(e) => return Err(e),
        };
        let bytes = &buffer[..read];
        let mut fate = state.decide(way, &tail, bytes);
        while fate == Fate::Wait {
            sleep(Duration::from_millis(20));
            if state.closed.load(Ordering::SeqCst) {
                return Ok(());
            }
            fate = state.decide(way, &tail, &[]);
        }
        match fate {
            Fate::Pass => to.write_all(bytes)?,
            Fate::Swallow | Fate::Wait => {}
            Fate::Trickle(rate) => trickle(&mut to, bytes, rate, state)?,
            Fate::CutBehind(count) => return to.write_all(&bytes[..count]),
        }
        tail.extend_from_slice(bytes);
        tail.drain(..tail.len().saturating_sub(TAIL));
    }
}

fn is_timeout(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Byte by byte, for as long as the fault lasts.
fn trickle(to: &mut TcpStream, bytes: &[u8], rate: u64, state: &State) -> io::Result<()> {
    // A hundred times a second: no sleep is exact that is much shorter.
    let step = (rate / 100).max(1) as usize;
    let pause = Duration::from_secs_f64(step as f64 / rate.max(1) as f64);
    for (i, piece) in bytes.chunks(step).enumerate() {
        let slow = matches!(*guard(&state.fault), Fault::Slow(_));
        if !slow || state.closed.load(Ordering::SeqCst) {
            return to.write_all(&bytes[i * step..]);
        }
        to.write_all(piece)?;
        sleep(pause);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that gives back what it gets, and the way to it.
    fn echo() -> Arc<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        spawn(move || {
            for stream in listener.incoming().flatten() {
                spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut &stream));
            }
        });
        Proxy::start(port).unwrap()
    }

    /// What comes back for this, until the connection ends or nothing more comes.
    fn sent(proxy: &Proxy, text: &[u8]) -> (Vec<u8>, bool) {
        let mut stream = TcpStream::connect(local(proxy.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        stream.write_all(text).unwrap();
        let (mut back, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return (back, true),
                Ok(read) => back.extend_from_slice(&buffer[..read]),
                Err(e) => return (back, !is_timeout(&e)),
            }
        }
    }

    #[test]
    fn bytes_pass_until_something_is_wrong() {
        let proxy = echo();
        assert_eq!(sent(&proxy, b"hello"), (b"hello".to_vec(), false));
        assert_eq!((proxy.bytes(Way::Up), proxy.bytes(Way::Down)), (5, 5));
        proxy.set(Fault::CutAfter(Way::Down, 3));
        assert!(sent(&proxy, b"hello").1, "it was not cut");
        assert_eq!(proxy.fired(), 1);
        assert_eq!(sent(&proxy, b"hello").0, b"hello", "it is cut once");
    }

    #[test]
    fn a_text_is_stopped_or_only_its_answer() {
        let proxy = echo();
        let at = |delivered| Fault::CutAt { text: b"COMMIT".to_vec(), delivered };
        for delivered in [false, true] {
            proxy.set(at(delivered));
            assert!(!sent(&proxy, b"BEGIN").1);
            assert!(sent(&proxy, b"xCOMMIT").1);
        }
        assert_eq!(proxy.fired(), 2);
        let state = &proxy.state;
        proxy.set(at(false));
        assert_eq!(state.decide(Way::Down, b"", b"COMMIT"), Fate::Pass);
        assert_eq!(state.decide(Way::Up, b"..COM", b"MIT.."), Fate::CutBehind(0));
        proxy.set(at(true));
        assert_eq!(state.decide(Way::Up, b"", b"..COMMIT.."), Fate::CutBehind(10));
    }

    #[test]
    fn what_does_not_pass_leaves_the_connection_open() {
        let proxy = echo();
        // Slow: the pause between two bytes is longer than anybody waits here.
        for (fault, most) in [(Fault::Stall, 0), (Fault::HalfOpen, 0), (Fault::Slow(1), 1)] {
            proxy.set(fault.clone());
            let (got, ended) = sent(&proxy, b"hello");
            assert!(!ended && got.len() <= most, "{fault:?} {got:?}");
            assert_eq!(proxy.bytes(Way::Up), 5);
        }
        proxy.set(Fault::None);
        assert_eq!(sent(&proxy, b"hello").0, b"hello");
    }
}
