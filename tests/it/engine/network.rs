//! The ports of an instance.

use roadstead_core::ports::Phase;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    fixture::{Fixture, Kind, address, container_of, with_embedded, with_engine},
    image::TestImage,
};

/// Sends all of `request`, says that there will be no more, and reads the whole answer.
async fn call(fixture: &Fixture, id: &roadstead_types::InstanceId, request: &[u8]) -> Vec<u8> {
    let mut stream = fixture.connect(address(&fixture.observe(id).await)).await;
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let send = async {
        writer.write_all(request).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let ((), read) = tokio::join!(send, reader.read_to_end(&mut answer));
    read.unwrap();
    answer
}

/// Answers each call with what it says, on a port that needs privileges elsewhere.
const ECHO: &str = "nc -ll -p 80 -e cat";

#[test]
fn bytes_pass_both_ways_and_are_counted_exactly() {
    with_engine(async |fixture| {
        let mut spec = fixture.script(&TestImage::busybox(), ECHO).await;
        container_of(&mut spec).ports = vec![80];
        let observation = fixture.engine().apply(&spec).await.unwrap();
        let at = address(&observation);
        assert_eq!(at.ip().is_loopback(), fixture.is(Kind::Embedded), "{at}");
        assert_eq!(call(fixture, &spec.id, b"hello").await, b"hello");
        let large: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        assert!(call(fixture, &spec.id, &large).await == large);
        assert_eq!(call(fixture, &spec.id, b"").await, b"");
        let total = u64::try_from(large.len()).unwrap() + 5;
        fixture.assert_network(fixture.engine().usage(&spec.id).await.unwrap(), total, total);
    });
}

#[test]
fn a_call_waits_for_a_service_that_does_not_listen_yet() {
    with_embedded(async |fixture| {
        let mut spec = fixture.script(&TestImage::busybox(), ECHO).await;
        container_of(&mut spec).ports = vec![80];
        let at = address(&fixture.engine().apply(&spec).await.unwrap());
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.read_exact(&mut [0; 5]).await.unwrap();
    });
}

#[test]
fn many_connections_wait_for_each_other_without_harm() {
    with_engine(async |fixture| {
        let mut spec = fixture.script(&TestImage::busybox(), ECHO).await;
        container_of(&mut spec).ports = vec![80];
        spec.limits.pids = 200;
        let at = address(&fixture.engine().apply(&spec).await.unwrap());
        // Some say nothing for long, some leave in the middle. Each has an answer first: the service has next to no
        // room for those that it has not accepted.
        let greeted = async || {
            let mut stream = fixture.connect(at).await;
            stream.write_all(b"hello").await.unwrap();
            stream.read_exact(&mut [0; 5]).await.unwrap();
            stream
        };
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(greeted().await);
            drop(greeted().await);
        }
        for number in 0..20 {
            let text = format!("number {number}");
            assert_eq!(call(fixture, &spec.id, text.as_bytes()).await, text.as_bytes());
        }
        for mut stream in silent {
            stream.write_all(b"late").await.unwrap();
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"late");
        }
    });
}

#[test]
fn the_last_words_arrive_after_the_end() {
    with_engine(async |fixture| {
        let mut spec = fixture.script(&TestImage::busybox(), "").await;
        // Becomes the program that answers, and ends with it.
        let command = ["nc", "-l", "-p", "7777", "-e", "echo", "goodbye"];
        container_of(&mut spec).command = Some(command.map(str::to_owned).to_vec());
        container_of(&mut spec).ports = vec![7_777];
        let at = address(&fixture.engine().apply(&spec).await.unwrap());
        let mut answer = String::new();
        fixture.connect(at).await.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "goodbye\n");
        let ended = fixture.ended(&spec.id).await;
        assert!(matches!(ended, Phase::Exited { status: Some(0), .. }), "{ended:?}");
        if fixture.is(Kind::Embedded) {
            assert_eq!(fixture.engine().usage(&spec.id).await.unwrap().network_out, Some(8));
        }
    });
}

#[test]
fn a_call_before_the_service_listens_does_not_reach_itself() {
    with_engine(async |fixture| {
        // Of those that connections are given as their own.
        let script = "cat /proc/sys/net/ipv4/ip_local_reserved_ports";
        let mut spec = fixture.script(&TestImage::busybox(), script).await;
        container_of(&mut spec).ports = vec![40_000, 80];
        let (_, said) = fixture.run_spec(&spec).await;
        assert_eq!(said, "80,40000\n");
    });
}

#[test]
fn nothing_is_within_reach() {
    with_engine(async |fixture| {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (_, said) = fixture
            .run(&format!(
                "nc -w 2 127.0.0.1 {port} < /dev/null; echo $?; nc -w 2 10.0.0.1 80; echo $?; \
                 nc -w 2 169.254.169.254 80; echo $?"
            ))
            .await;
        let statuses: Vec<_> = said.lines().filter(|line| line.len() == 1).collect();
        assert_eq!(statuses, ["1", "1", "1"], "{said}");
        // Docker's rules drop what the network does not know the way to.
        let lost = if fixture.is(Kind::Embedded) { "unreachable" } else { "timed out" };
        assert!(said.contains("refused") && (said.contains(lost) || said.contains("unreachable")));
    });
}
