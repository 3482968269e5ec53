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
//! Bytes wait in memory only while their receiver is slow, and then the sender is not read from; the more wait over all
//! connections, the less is read at once. What went into or came
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

/// Bytes that are read at once, and where [`MAX_PENDING`] wait already.
const PIECE: usize = 64 << 10;
const SMALL_PIECE: usize = 4 << 10;

/// Bytes that may wait in memory over all connections, but for a [`SMALL_PIECE`] at each end.
const MAX_PENDING: usize = 16 << 20;

/// How long nothing may pass, and where one end has said all.
const IDLE: Duration = Duration::from_secs(3_600);
const HALF_OPEN: Duration = Duration::from_secs(600);

/// Between two looks for connections on which nothing passes.
const SWEEP: Duration = Duration::from_secs(60);

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
    /// It is known to be gone, which the kernel would tell over and over.
    is_broken: bool,
    /// What it is waited for; without flags for its being gone, and with `None` for nothing.
    interest: Option<EventFlags>,
}

impl End {
    const fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            pending: Vec::new(),
            said_all: false,
            told_all: false,
            is_broken: false,
            interest: None,
        }
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
    /// When something happened to it last.
    touched: Instant,
}

impl Connection {
    fn new(port: u16, stage: Stage) -> Self {
        Self { port, stage, touched: Instant::now() }
    }

    /// Bytes that wait.
    fn pending(&self) -> usize {
        match &self.stage {
            Stage::Open(ends) => ends.iter().map(|end| end.pending.len()).sum(),
            _ => 0,
        }
    }

    /// How long nothing may happen to it.
    fn patience(&self) -> Duration {
        match &self.stage {
            Stage::Open(ends) if ends.iter().any(|end| end.told_all) => HALF_OPEN,
            _ => IDLE,
        }
    }
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
    /// Bytes that wait over all connections.
    pending: usize,
    /// When connections on which nothing passes are looked for next.
    sweep: Instant,
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
            pending: 0,
            sweep: Instant::now() + SWEEP,
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
        let sweep = (!self.connections.is_empty()).then_some(self.sweep);
        waiting.chain(self.paused).chain(sweep).min()
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
        self.count_pending();
    }

    fn count_pending(&mut self) {
        self.pending = self.connections.values().map(Connection::pending).sum();
    }

    fn insert(&mut self, key: u64, connection: Connection) {
        self.pending += connection.pending();
        self.connections.insert(key, connection);
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
        let Some(connection) = self.connections.remove(&caller) else { return };
        self.pending -= connection.pending();
        let Connection { port, stage, .. } = connection;
        match stage {
            Stage::Waiting(..) => self.insert(caller, Connection::new(port, stage)),
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
        for (key, Connection { port, stage, .. }) in due.collect::<Vec<_>>() {
            if let Stage::Waiting(caller, _) = stage {
                self.dial(poll, key, caller, port);
            }
        }
        if self.sweep <= now {
            self.sweep = now + SWEEP;
            self.let_idle_go(now);
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

    /// Lets connections go on which nothing has passed for long, so that they do not keep others out for ever.
    fn let_idle_go(&mut self, now: Instant) {
        self.connections.retain(|_, connection| {
            now.saturating_duration_since(connection.touched) < connection.patience()
        });
        self.count_pending();
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
                    self.insert(key, Connection::new(port, Stage::Connecting(caller, container)));
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
            self.insert(key, Connection::new(port, Stage::Waiting(caller, until)));
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
            self.insert(key, Connection::new(port, Stage::Open(ends)));
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
        let piece = MAX_PENDING.saturating_sub(self.pending).clamp(SMALL_PIECE, PIECE);
        if flags.intersects(inward | broken) {
            let mut written = container.flush()?;
            caller.read_for(container, &mut self.buffer[..piece])?;
            written += container.flush()?;
            self.counters.add_incoming(written);
            caller.tell(container)?;
        }
        if flags.intersects(outward | broken) {
            caller.flush()?;
            let read = container.read_for(caller, &mut self.buffer[..piece])?;
            self.counters.add_outgoing(read);
            // Whoever has an answer finds it counted.
            self.publish();
            caller.flush()?;
            container.tell(caller)?;
        }
        if flags.intersects(broken) {
            ends[side as usize].is_broken = true;
        }
        let [caller, container] = ends;
        if caller.is_gone(container) || container.is_gone(caller) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl End {
    fn wait_for(&mut self, poll: &Poll, key: u64, other: &Self) -> io::Result<()> {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, !self.said_all && other.pending.is_empty());
        flags.set(EventFlags::OUT, !self.pending.is_empty());
        // Whoever waits for nothing may still go. A closed socket reports itself for ever, so it is left alone then.
        let is_watched = !flags.is_empty() || !(self.told_all || self.is_broken);
        let interest = is_watched.then_some(flags);
        if interest != self.interest {
            match (self.interest, interest) {
                (None, Some(flags)) => poll.add(&self.stream, key, flags)?,
                (Some(_), Some(flags)) => poll.change(&self.stream, key, flags)?,
                (Some(_), None) => poll.remove(&self.stream)?,
                (None, None) => {}
            }
            self.interest = interest;
        }
        Ok(())
    }

    /// Whether it is gone and all that it said has been passed on.
    const fn is_gone(&self, other: &Self) -> bool {
        self.is_broken && self.said_all && other.pending.is_empty()
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
