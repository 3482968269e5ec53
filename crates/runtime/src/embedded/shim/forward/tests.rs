//! Callers and a service in one network; the loop is turned by hand.

use tempfile::TempDir;

use super::*;

struct Loop {
    home: TempDir,
    poll: Poll,
    forwarder: Forwarder,
    at: SocketAddr,
}

impl Loop {
    /// Forwards to `service`.
    fn new(service: SocketAddr, most: usize) -> Self {
        let home = tempfile::tempdir().unwrap();
        let listeners = listen(&[service.port()]).unwrap();
        let at = addresses(&listeners).unwrap()[&service.port()];
        let counters = Counters::open(home.path()).unwrap();
        let (poll, forwarder) = (Poll::new().unwrap(), Forwarder::new(listeners, counters, most));
        forwarder.open(&poll).unwrap();
        Self { home, poll, forwarder, at }
    }

    fn call(&self) -> TcpStream {
        TcpStream::connect(self.at).unwrap()
    }

    /// Turns until `reached`.
    fn until(&mut self, mut reached: impl FnMut(&Forwarder) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !reached(&self.forwarder) {
            assert!(Instant::now() < end, "this takes too long");
            let wake = self.forwarder.wake().unwrap_or(end).min(Instant::now() + PAUSE);
            for (key, flags) in self.poll.wait(Some(wake)).unwrap() {
                self.forwarder.answer(&self.poll, key, flags);
            }
            self.forwarder.try_again(&self.poll);
            self.forwarder.publish();
        }
    }

    /// Turns until so much went to the service.
    fn until_incoming(&mut self, bytes: u64) {
        let home = self.home.path().to_owned();
        self.until(|_| Counters::read(&home).0 == bytes);
    }

    fn counted(&self) -> (u64, u64) {
        Counters::read(self.home.path())
    }
}

fn service() -> TcpListener {
    let listener = TcpListener::bind(local(0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    service().local_addr().unwrap()
}

fn is_waiting(forwarder: &Forwarder) -> bool {
    let mut stages = forwarder.connections.values().map(|connection| &connection.stage);
    stages.any(|stage| matches!(stage, Stage::Waiting(..)))
}

/// Turns until the service is called.
fn accept(turned: &mut Loop, service: &TcpListener) -> TcpStream {
    let mut called = None;
    turned.until(|_| {
        called = service.accept().ok();
        called.is_some()
    });
    called.unwrap().0
}

#[test]
fn a_caller_waits_for_a_service_that_is_young() {
    let at = nobody();
    let mut turned = Loop::new(at, 8);
    let mut caller = turned.call();
    turned.until(is_waiting);
    let service = TcpListener::bind(at).unwrap();
    service.set_nonblocking(true).unwrap();
    let mut inner = accept(&mut turned, &service);
    caller.write_all(b"hello").unwrap();
    turned.until_incoming(5);
    let mut said = [0; 5];
    inner.set_nonblocking(false).unwrap();
    inner.read_exact(&mut said).unwrap();
    assert_eq!((&said, turned.counted()), (b"hello", (5, 0)));
}

#[test]
fn a_caller_is_let_go_when_the_service_is_old_enough_to_listen() {
    let mut turned = Loop::new(nobody(), 8);
    turned.forwarder.grace = Instant::now();
    let mut caller = turned.call();
    turned.until(|forwarder| forwarder.next > FIRST_CONNECTION);
    turned.until(Forwarder::is_idle);
    assert!(!matches!(caller.read(&mut [0]), Ok(count) if count > 0));
}

#[test]
fn what_a_slow_caller_does_not_take_stays_with_the_service() {
    let service = service();
    let mut turned = Loop::new(service.local_addr().unwrap(), 8);
    let mut caller = turned.call();
    let mut inner = accept(&mut turned, &service);
    inner.set_nonblocking(true).unwrap();
    let (piece, mut sent) = (vec![7; PIECE], 0_u64);
    // Until the sockets are full on the whole way.
    let mut refused = 0;
    turned.until(|_| {
        match inner.write(&piece) {
            Ok(count) => (sent, refused) = (sent + count as u64, 0),
            Err(_) => refused += 1,
        }
        refused > 20
    });
    for connection in turned.forwarder.connections.values() {
        let Stage::Open(ends) = &connection.stage else { panic!("{connection:?}") };
        let [caller, container] = &**ends;
        assert!(!caller.pending.is_empty() && caller.pending.len() <= PIECE);
        assert_eq!(container.interest, EventFlags::empty());
    }
    drop(inner);
    caller.set_nonblocking(true).unwrap();
    let (mut got, mut buffer) = (0, vec![0; PIECE]);
    turned.until(|forwarder| {
        while let Ok(count @ 1..) = caller.read(&mut buffer) {
            got += count as u64;
        }
        forwarder.is_idle() || got == sent
    });
    assert_eq!((got, turned.counted()), (sent, (0, sent)));
}

#[test]
fn a_caller_that_has_said_all_still_gets_its_answer() {
    let service = service();
    let mut turned = Loop::new(service.local_addr().unwrap(), 8);
    let mut caller = turned.call();
    caller.write_all(b"question").unwrap();
    caller.shutdown(Shutdown::Write).unwrap();
    let mut inner = accept(&mut turned, &service);
    turned.until_incoming(8);
    inner.set_nonblocking(true).unwrap();
    let (mut question, mut piece) = (Vec::new(), [0; 8]);
    turned.until(|_| match inner.read(&mut piece) {
        Ok(count) => {
            question.extend_from_slice(&piece[..count]);
            count == 0
        }
        Err(_) => false,
    });
    assert_eq!(question, b"question");
    inner.write_all(b"answer").unwrap();
    drop(inner);
    turned.until(Forwarder::is_idle);
    let mut answer = String::new();
    caller.read_to_string(&mut answer).unwrap();
    assert_eq!((&*answer, turned.counted()), ("answer", (8, 6)));
}

#[test]
fn callers_beyond_the_bound_have_their_turn_when_others_leave() {
    let service = service();
    let mut turned = Loop::new(service.local_addr().unwrap(), 2);
    let mut callers: Vec<_> = (0..3).map(|_| turned.call()).collect();
    let inner: Vec<_> = (0..2).map(|_| accept(&mut turned, &service)).collect();
    turned.until(|forwarder| forwarder.paused.is_some());
    assert_eq!(turned.forwarder.connections.len(), 2);
    drop(inner);
    drop(callers.drain(..2));
    drop(accept(&mut turned, &service));
    assert!(turned.forwarder.paused.is_none());
}

#[test]
fn after_the_end_callers_are_left_once_they_know_all() {
    let service = service();
    let mut turned = Loop::new(service.local_addr().unwrap(), 8);
    let mut caller = turned.call();
    let mut inner = accept(&mut turned, &service);
    inner.write_all(b"goodbye").unwrap();
    drop(inner);
    turned.forwarder.begin_to_end();
    // The caller never closes its own end.
    turned.until(Forwarder::is_idle);
    let mut said = String::new();
    caller.read_to_string(&mut said).unwrap();
    assert_eq!(said, "goodbye");
    assert!(TcpStream::connect(turned.at).is_err());
}
