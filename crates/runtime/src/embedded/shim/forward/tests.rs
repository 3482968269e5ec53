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
        self.until(|_| Counters::read(&home).unwrap().0 == bytes);
    }

    fn counted(&self) -> (u64, u64) {
        Counters::read(self.home.path()).unwrap()
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
        assert_eq!(container.interest, Some(EventFlags::empty()), "only its being gone");
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
fn whoever_has_an_answer_finds_it_counted() {
    let service = service();
    let mut turned = Loop::new(service.local_addr().unwrap(), 8);
    let mut caller = turned.call();
    let mut inner = accept(&mut turned, &service);
    let open = |connection: &Connection| matches!(connection.stage, Stage::Open(_));
    turned.until(|forwarder| forwarder.connections.values().all(open));
    inner.write_all(b"answer").unwrap();
    // The events alone, without what comes at the end of a turn.
    for (key, flags) in turned.poll.wait(None).unwrap() {
        turned.forwarder.answer(&turned.poll, key, flags);
    }
    caller.read_exact(&mut [0; 6]).unwrap();
    assert_eq!(turned.counted(), (0, 6));
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

/// A caller that has said all, to a service that says nothing.
fn half_open(turned: &mut Loop, service: &TcpListener) -> (TcpStream, TcpStream) {
    let caller = turned.call();
    caller.shutdown(Shutdown::Write).unwrap();
    let inner = accept(turned, service);
    turned.until(|forwarder| {
        let mut stages = forwarder.connections.values().map(|connection| &connection.stage);
        stages.any(|stage| matches!(stage, Stage::Open(ends) if ends[1].told_all))
    });
    (caller, inner)
}

#[test]
fn a_caller_that_said_all_and_then_went_is_let_go() {
    let service = service();
    let mut turned = Loop::new(service.local_addr().unwrap(), 8);
    let (caller, _silent) = half_open(&mut turned, &service);
    // Closed so, it does not wait for an answer.
    sockopt::set_socket_linger(&caller, Some(Duration::ZERO)).unwrap();
    drop(caller);
    turned.until(Forwarder::is_idle);
}

#[test]
fn a_service_that_said_all_and_then_went_is_let_go() {
    let service = service();
    let mut turned = Loop::new(service.local_addr().unwrap(), 8);
    let mut caller = turned.call();
    let mut inner = accept(&mut turned, &service);
    inner.write_all(b"answer").unwrap();
    inner.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    caller.set_nonblocking(true).unwrap();
    turned.until(|_| caller.read_to_string(&mut answer).is_ok());
    sockopt::set_socket_linger(&inner, Some(Duration::ZERO)).unwrap();
    drop(inner);
    turned.until(Forwarder::is_idle);
    assert_eq!(answer, "answer");
}

#[test]
fn what_does_nothing_for_long_is_let_go() {
    let service = service();
    let mut turned = Loop::new(service.local_addr().unwrap(), 8);
    let _silent = half_open(&mut turned, &service);
    let (_idle, _inner) = (turned.call(), accept(&mut turned, &service));
    let open = |connection: &Connection| matches!(connection.stage, Stage::Open(_));
    turned.until(|forwarder| forwarder.connections.values().all(open));
    let now = Instant::now();
    turned.forwarder.let_idle_go(now + HALF_OPEN / 2);
    assert_eq!(turned.forwarder.connections.len(), 2);
    turned.forwarder.let_idle_go(now + HALF_OPEN);
    assert_eq!(turned.forwarder.connections.len(), 1);
    turned.forwarder.let_idle_go(now + IDLE);
    assert!(turned.forwarder.is_idle());
}

#[test]
fn less_is_read_at_once_where_much_waits() {
    let service = service();
    let mut turned = Loop::new(service.local_addr().unwrap(), 8);
    turned.forwarder.pending = MAX_PENDING;
    let _caller = turned.call();
    let mut inner = accept(&mut turned, &service);
    inner.set_nonblocking(true).unwrap();
    let piece = vec![7; PIECE];
    turned.until(|forwarder| {
        // Refused where the sockets are full.
        let _ = inner.write(&piece);
        forwarder.connections.values().any(|connection| connection.pending() > 0)
    });
    let waiting: usize = turned.forwarder.connections.values().map(Connection::pending).sum();
    assert!((1..=SMALL_PIECE).contains(&waiting), "{waiting}");
    assert_eq!(turned.forwarder.pending, MAX_PENDING + waiting);
    turned.forwarder.begin_to_end();
    assert_eq!(turned.forwarder.pending, waiting);
}
