//! Forwards TCP connections into the container's network, and counts what passes.
//!
//! The listeners were made in the machine's network, everything else is made in the container's: a socket belongs to
//! the network in which the thread was that made it.
//!
//! ```text
//! accepted ─> connecting ─> open ─> one side said all ─> both did: closed
//!                │  ^
//!        refused v  │ a moment later, while the container is young
//!               waiting
//! ```
//!
//! Bytes wait in memory only while their receiver is slow, and then the sender is not read from. What went into or came
//! out of the container's socket is counted.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use rustix::{
    event::epoll::EventFlags,
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt},
};

use super::{
    ShimError, io_failed,
    watch::{FIRST_CONNECTION, FIRST_LISTENER, Poll},
};
use crate::embedded::run::Counters;

/// Connections at once; more wait until one ends.
pub(super) const MAX_CONNECTIONS: usize = 1_000;

/// How long after the start of the shim a refused connection is tried again: the service may not listen yet.
const GRACE: Duration = Duration::from_secs(10);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// Connections that are accepted before something else has its turn.
const BATCH: usize = 16;

/// Listens for each port on the loopback address of this thread's network.
pub(super) fn listen(ports: &[u16]) -> Result<Vec<(TcpListener, u16)>, ShimError> {
    ports.iter().map(|port| listen_at(local(0), *port)).collect()
}

/// Listens where a predecessor did, or elsewhere where that place is taken meanwhile.
pub(super) fn listen_again(
    ports: &BTreeMap<u16, SocketAddr>,
) -> Result<Vec<(TcpListener, u16)>, ShimError> {
    let listen = |(port, address): (&u16, &SocketAddr)| {
        listen_at(*address, *port).or_else(|_| listen_at(local(0), *port))
    };
    ports.iter().map(listen).collect()
}

fn listen_at(address: SocketAddr, port: u16) -> Result<(TcpListener, u16), ShimError> {
    let listener = TcpListener::bind(address).map_err(io_failed("listen"))?;
    listener.set_nonblocking(true).map_err(io_failed("listen"))?;
    Ok((listener, port))
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Where the listeners are, by the port that each stands for.
pub(super) fn addresses(
    listeners: &[(TcpListener, u16)],
) -> Result<BTreeMap<u16, SocketAddr>, ShimError> {
    let address = |(listener, port): &(TcpListener, u16)| Ok((*port, listener.local_addr()?));
    let addresses = listeners.iter().map(address).collect::<io::Result<_>>();
    addresses.map_err(io_failed("find the address of a listener"))
}

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// Whoever calls.
    Caller = 0,
    /// The container.
    Container = 1,
}

/// One end of a connection, and what is on its way to it.
#[derive(Debug)]
struct End {
    stream: TcpStream,
    /// What could not be written yet.
    pending: Vec<u8>,
    /// It will say no more.
    said_all: bool,
    /// It was told that the other end will say no more.
    told_all: bool,
    /// What it is waited for, none where it is not.
    interest: EventFlags,
}

impl End {
    const fn new(stream: TcpStream) -> Self {
        let interest = EventFlags::empty();
        Self { stream, pending: Vec::new(), said_all: false, told_all: false, interest }
    }
}

#[derive(Debug)]
enum Stage {
    /// Until then; the container refused.
    Waiting(TcpStream, Instant),
    /// To the container.
    Connecting(TcpStream, TcpStream),
    /// The caller and the container.
    Open(Box<[End; 2]>),
}

#[derive(Debug)]
struct Connection {
    port: u16,
    stage: Stage,
}

/// What became of an attempt to reach the container.
enum Dialled {
    Connected(TcpStream),
    Connecting(TcpStream),
    Refused,
}

/// All connections of one container.
#[derive(Debug)]
pub(super) struct Forwarder {
    listeners: Vec<(TcpListener, u16)>,
    /// By the key of the caller's end; the container's has the next one.
    connections: HashMap<u64, Connection>,
    next: u64,
    counters: Counters,
    buffer: Vec<u8>,
    /// Connections at once.
    most: usize,
    /// Until when a refused connection is tried again.
    grace: Instant,
    /// Until when nothing is accepted, where too much is open.
    paused: Option<Instant>,
    /// Whether the container has ended.
    ends: bool,
}

impl Forwarder {
    pub(super) fn new(listeners: Vec<(TcpListener, u16)>, counters: Counters, most: usize) -> Self {
        Self {
            listeners,
            connections: HashMap::new(),
            next: FIRST_CONNECTION,
            counters,
            buffer: vec![0; PIECE],
            most,
            grace: Instant::now() + GRACE,
            paused: None,
            ends: false,
        }
    }

    /// Begins to wait for callers.
    pub(super) fn open(&self, poll: &Poll) -> io::Result<()> {
        (FIRST_LISTENER..)
            .zip(&self.listeners)
            .try_for_each(|(key, (listener, _))| poll.add(listener, key, EventFlags::IN))
    }

    /// When [`Self::try_again`] has something to do.
    pub(super) fn wake(&self) -> Option<Instant> {
        let waiting = self.connections.values().filter_map(|connection| match &connection.stage {
            Stage::Waiting(_, until) => Some(*until),
            _ => None,
        });
        waiting.chain(self.paused).min()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.connections.is_empty()
    }

    /// Shows what was counted to others. What cannot be written now is written later.
    pub(super) fn publish(&mut self) {
        let _ = self.counters.publish();
    }

    /// Takes no more callers, and leaves those alone to whom the container has said all.
    pub(super) fn begin_to_end(&mut self) {
        self.ends = true;
        self.paused = None;
        self.listeners.clear();
        self.connections.retain(|_, connection| match &connection.stage {
            Stage::Open(ends) => !ends[Side::Caller as usize].told_all,
            // The container may have spoken and ended before this was noticed.
            Stage::Connecting(..) => true,
            Stage::Waiting(..) => false,
        });
    }

    /// Answers an event of [`Poll`] at a listener or at a connection.
    pub(super) fn answer(&mut self, poll: &Poll, key: u64, flags: EventFlags) {
        if key >= FIRST_CONNECTION {
            self.go_on(poll, key, flags);
        } else {
            let index = usize::try_from(key - FIRST_LISTENER).unwrap_or(usize::MAX);
            self.accept(poll, index);
        }
    }

    /// Accepts from the listener with this index.
    fn accept(&mut self, poll: &Poll, index: usize) {
        for _ in 0..BATCH {
            if self.connections.len() >= self.most {
                return self.pause(poll);
            }
            let Some((listener, port)) = self.listeners.get(index) else { return };
            let port = *port;
            match listener.accept() {
                Ok((caller, _)) => {
                    let key = self.next;
                    self.next += 2;
                    if caller.set_nonblocking(true).is_ok() {
                        self.dial(poll, key, caller, port);
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    // No descriptors or no memory: later, perhaps.
                    _ => return self.pause(poll),
                },
            }
        }
    }

    /// Goes on with a connection that something happened to.
    fn go_on(&mut self, poll: &Poll, key: u64, flags: EventFlags) {
        let caller = key & !1;
        // An event may have waited while its connection was closed.
        let Some(Connection { port, stage }) = self.connections.remove(&caller) else { return };
        match stage {
            Stage::Waiting(..) => {
                self.connections.insert(caller, Connection { port, stage });
            }
            Stage::Connecting(stream, container) => match sockopt::socket_error(&container) {
                Ok(Ok(())) if poll.remove(&container).is_ok() => {
                    self.join(poll, caller, port, stream, container);
                }
                Ok(Err(Errno::CONNREFUSED)) => self.wait(caller, port, stream),
                _ => {}
            },
            Stage::Open(mut ends) => {
                let side = if key == caller { Side::Caller } else { Side::Container };
                if self.pass(&mut ends, side, flags).is_ok() {
                    self.keep(poll, caller, port, ends);
                }
            }
        }
    }

    /// Tries again what was refused, and accepts again, where it is time.
    pub(super) fn try_again(&mut self, poll: &Poll) {
        let now = Instant::now();
        let due = self.connections.extract_if(
            |_, connection| matches!(&connection.stage, Stage::Waiting(_, until) if *until <= now),
        );
        for (key, Connection { port, stage }) in due.collect::<Vec<_>>() {
            if let Stage::Waiting(caller, _) = stage {
                self.dial(poll, key, caller, port);
            }
        }
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
            if self.connections.len() >= self.most {
                self.paused = Some(now + PAUSE);
            } else if self.open(poll).is_err() {
                self.pause(poll);
            }
        }
    }

    fn pause(&mut self, poll: &Poll) {
        for (listener, _) in &self.listeners {
            // One that is not waited for need not be left alone.
            let _ = poll.remove(listener);
        }
        self.paused = Some(Instant::now() + PAUSE);
    }

    fn dial(&mut self, poll: &Poll, key: u64, caller: TcpStream, port: u16) {
        match dial(port) {
            Ok(Dialled::Connected(container)) => self.join(poll, key, port, caller, container),
            Ok(Dialled::Connecting(container)) => {
                if poll.add(&container, key + 1, EventFlags::OUT).is_ok() {
                    let stage = Stage::Connecting(caller, container);
                    self.connections.insert(key, Connection { port, stage });
                }
            }
            Ok(Dialled::Refused) => self.wait(key, port, caller),
            // The caller sees its connection closed.
            Err(_) => {}
        }
    }

    fn wait(&mut self, key: u64, port: u16, caller: TcpStream) {
        let until = Instant::now() + PAUSE;
        if until < self.grace && !self.ends {
            let stage = Stage::Waiting(caller, until);
            self.connections.insert(key, Connection { port, stage });
        }
    }

    fn join(&mut self, poll: &Poll, key: u64, port: u16, caller: TcpStream, container: TcpStream) {
        // Without it a small answer may wait for an acknowledgement; nothing else changes.
        let _ = (caller.set_nodelay(true), container.set_nodelay(true));
        self.keep(poll, key, port, Box::new([End::new(caller), End::new(container)]));
    }

    /// Waits for what can happen next, and lets a connection go to which nothing can.
    fn keep(&mut self, poll: &Poll, key: u64, port: u16, mut ends: Box<[End; 2]>) {
        let [caller, container] = &mut *ends;
        let over = caller.told_all && (container.told_all || self.ends);
        if over || caller.wait_for(poll, key, container).is_err() {
            return;
        }
        if container.wait_for(poll, key + 1, caller).is_ok() {
            self.connections.insert(key, Connection { port, stage: Stage::Open(ends) });
        }
    }

    /// Passes on what an event at one end allows.
    fn pass(&mut self, ends: &mut [End; 2], side: Side, flags: EventFlags) -> io::Result<()> {
        let broken = EventFlags::HUP | EventFlags::ERR;
        let [caller, container] = ends;
        let (inward, outward) = match side {
            Side::Caller => (EventFlags::IN, EventFlags::OUT),
            Side::Container => (EventFlags::OUT, EventFlags::IN),
        };
        if flags.intersects(inward | broken) {
            let mut written = container.flush()?;
            caller.read_for(container, &mut self.buffer)?;
            written += container.flush()?;
            self.counters.add_incoming(written);
            caller.tell(container)?;
        }
        if flags.intersects(outward | broken) {
            caller.flush()?;
            let read = container.read_for(caller, &mut self.buffer)?;
            self.counters.add_outgoing(read);
            // Whoever has an answer finds it counted.
            self.publish();
            caller.flush()?;
            container.tell(caller)?;
        }
        Ok(())
    }
}

impl End {
    fn wait_for(&mut self, poll: &Poll, key: u64, other: &Self) -> io::Result<()> {
        let mut interest = EventFlags::empty();
        interest.set(EventFlags::IN, !self.said_all && other.pending.is_empty());
        interest.set(EventFlags::OUT, !self.pending.is_empty());
        if interest != self.interest {
            // A closed socket reports itself for ever where anything is waited for, so it is not where nothing is.
            match (self.interest.is_empty(), interest.is_empty()) {
                (true, _) => poll.add(&self.stream, key, interest)?,
                (false, true) => poll.remove(&self.stream)?,
                (false, false) => poll.change(&self.stream, key, interest)?,
            }
            self.interest = interest;
        }
        Ok(())
    }

    /// Reads one piece for the other end, where that waits for one. Returns how much it was.
    fn read_for(&mut self, other: &mut Self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.said_all || !other.pending.is_empty() {
            return Ok(0);
        }
        match self.stream.read(buffer) {
            Ok(0) => self.said_all = true,
            Ok(count) => {
                other.pending = buffer[..count].to_vec();
                return Ok(count);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
        Ok(0)
    }

    /// Tells the other end that there will be no more, once that is so.
    fn tell(&self, other: &mut Self) -> io::Result<()> {
        if self.said_all && other.pending.is_empty() && !other.told_all {
            other.told_all = true;
            match other.stream.shutdown(Shutdown::Write) {
                Err(error) if error.kind() != io::ErrorKind::NotConnected => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes what waits. Returns how much went out.
    fn flush(&mut self) -> io::Result<usize> {
        let mut written = 0;
        while written < self.pending.len() {
            match self.stream.write(&self.pending[written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.pending.drain(..written);
        if self.pending.is_empty() {
            // A connection that does nothing holds no memory.
            self.pending = Vec::new();
        }
        Ok(written)
    }
}

fn dial(port: u16) -> io::Result<Dialled> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)) {
        Ok(()) => Ok(Dialled::Connected(socket.into())),
        Err(Errno::INPROGRESS | Errno::INTR) => Ok(Dialled::Connecting(socket.into())),
        Err(Errno::CONNREFUSED) => Ok(Dialled::Refused),
        Err(error) => Err(error.into()),
    }
}
