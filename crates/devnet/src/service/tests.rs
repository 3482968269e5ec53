//! The image as others read it, and the program as others call it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use rustix::{
    net::sockopt::set_socket_linger,
    process::{Pid, Signal, kill_process},
};

use super::*;

/// Where the compiler left it: a copy could be busy, still open for writing in a child of another test.
const FILE: &str = concat!(env!("OUT_DIR"), "/service");

/// How long a silent service is waited for until a test counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The service on this machine, on a port of its own.
struct Running {
    process: Option<Child>,
    port: u16,
}

impl Running {
    fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_with(|| command(settings))
    }

    fn start_with(command: impl Fn() -> Command) -> Self {
        // Another process may take the port in between; then there is another one.
        for _ in 0..20 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let mut process = command().env("PORT", port.to_string()).spawn().unwrap();
            let mut line = String::new();
            let output = process.stdout.take().unwrap();
            BufReader::new(output).read_line(&mut line).unwrap();
            if line == "listening\n" {
                return Self { process: Some(process), port };
            }
            assert_eq!(status(process), Some(3), "it cannot listen");
        }
        panic!("no port was free");
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request and returns the whole answer.
    fn ask(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        answer(&mut stream)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The program with these variables and no other.
fn command(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(FILE);
    command.env_clear().envs(settings.iter().copied()).stdout(Stdio::piped());
    command
}

/// How a process ends, which it must do soon.
fn status(mut process: Child) -> Option<i32> {
    let pid = Pid::from_child(&process);
    let (tell, told) = mpsc::channel();
    let waiting = thread::spawn(move || tell.send(process.wait()));
    let status = told.recv_timeout(PATIENCE);
    if status.is_err() {
        kill_process(pid, Signal::KILL).unwrap();
    }
    waiting.join().unwrap().unwrap();
    status.expect("it does not end").unwrap().code()
}

fn answer(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The status line and the body, after checking what the head says about the body.
fn parts(answer: &str) -> (&str, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap();
    let headers: BTreeMap<_, _> = lines.map(|line| line.split_once(": ").unwrap()).collect();
    assert_eq!(headers["Connection"], "close");
    assert_eq!(headers["Content-Length"], body.len().to_string());
    (status, body)
}

#[test]
fn it_answers_and_goes_on() {
    let service = Running::start(&[]);
    let greeting = "hello from a container that somebody else runs\n";
    let ok = "HTTP/1.1 200 OK";
    for _ in 0..3 {
        let answer = service.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
        assert_eq!(parts(&answer), (ok, greeting));
    }
    assert_eq!(parts(&service.ask(b"GET /?a=b HTTP/1.0\r\n\r\n")), (ok, greeting));
    let head = service.ask(b"HEAD / HTTP/1.1\r\n\r\n");
    assert!(head.starts_with(ok) && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", greeting.len())), "{head}");
}

#[test]
fn it_takes_a_request_in_pieces() {
    let service = Running::start(&[]);
    let mut stream = service.connect();
    stream.set_nodelay(true).unwrap();
    for piece in ["GE", "T / HTTP/1.1\r\nHo", "st: x\r\n\r", "\n"] {
        stream.write_all(piece.as_bytes()).unwrap();
    }
    assert_eq!(parts(&answer(&mut stream)).0, "HTTP/1.1 200 OK");
}

#[test]
fn it_refuses_everything_else() {
    let service = Running::start(&[]);
    for (request, status) in [
        (&b"GET /other HTTP/1.1\r\n\r\n"[..], "HTTP/1.1 404 Not Found"),
        (b"GET /../ HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found"),
        (b"POST / HTTP/1.1\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
        (b"GET /\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (b"GET / HTTP/2\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (b"GET / x HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (b"\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (b"\x16\x03\x01\xff\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (&[b'a'; 4096], "HTTP/1.1 431 Request Header Fields Too Large"),
    ] {
        let answer = service.ask(request);
        assert_eq!(parts(&answer).0, status, "{}", request.escape_ascii());
    }
}

#[test]
fn it_says_what_it_is_told_to() {
    let service = Running::start(&[("GREETINGS", "no"), ("GREETING", "hall\u{f6}chen")]);
    assert_eq!(parts(&service.ask(b"GET / HTTP/1.1\r\n\r\n")).1, "hall\u{f6}chen\n");
    let long = "x".repeat(100_000);
    let service = Running::start(&[("GREETING", &long)]);
    let answer = service.ask(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(parts(&answer).1, format!("{}\n", &long[..256]));
}

#[test]
fn a_port_that_is_none_is_refused() {
    for port in ["", "0", "65536", "-1", "80a", "99999999999999999999"] {
        let process = command(&[("PORT", port)]).spawn().unwrap();
        assert_eq!(status(process), Some(2), "{port}");
    }
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    assert_eq!(status(command(&[("PORT", &port)]).spawn().unwrap()), Some(3));
}

#[test]
fn callers_that_say_nothing_or_little_do_not_keep_others_out() {
    let service = Running::start(&[]);
    let silent = service.connect();
    let slow = service.connect();
    slow.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let served = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // One byte after the other, each within the time that one wait may take, until the service hangs up.
            let mut slow = &slow;
            while !served.load(Ordering::Relaxed) && slow.write_all(b"a").is_ok() {
                let _ = slow.read(&mut [0]);
            }
        });
        let mut stream = service.connect();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        served.store(true, Ordering::Relaxed);
        read.unwrap();
        assert_eq!(parts(&answer).0, "HTTP/1.1 200 OK");
    });
    drop(silent);
}

#[test]
fn callers_that_hang_up_do_not_end_it() {
    let service = Running::start(&[]);
    for _ in 0..20 {
        drop(service.connect());
        let mut half = service.connect();
        half.write_all(b"GET / HT").unwrap();
        half.shutdown(Shutdown::Write).unwrap();
        assert_eq!(answer(&mut half), "");
        // What is left unread here resets the connection under the answer.
        let mut rude = service.connect();
        rude.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    }
    assert_eq!(parts(&service.ask(b"GET / HTTP/1.1\r\n\r\n")).0, "HTTP/1.1 200 OK");
}

#[test]
fn a_connection_that_is_gone_when_it_is_answered_does_not_end_it() {
    let service = Running::start(&[]);
    // Until it gives this one up, the service sees nothing of the next.
    let silent = service.connect();
    let mut gone = service.connect();
    gone.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    gone.shutdown(Shutdown::Write).unwrap();
    // Without lingering, closing resets.
    set_socket_linger(&gone, Some(Duration::ZERO)).unwrap();
    drop(gone);
    assert_eq!(parts(&service.ask(b"GET / HTTP/1.1\r\n\r\n")).0, "HTTP/1.1 200 OK");
    drop(silent);
}

#[test]
fn signals_end_it_even_if_they_were_blocked() {
    let blocking = || {
        let mut command = Command::new("env");
        command.args(["--block-signal=INT", "--block-signal=TERM", FILE]).stdout(Stdio::piped());
        command
    };
    for signal in [Signal::TERM, Signal::INT] {
        let mut service = Running::start_with(blocking);
        let process = service.process.take().unwrap();
        kill_process(Pid::from_child(&process), signal).unwrap();
        assert_eq!(status(process), Some(0), "{signal:?}");
    }
}

#[test]
fn the_image_is_the_same_each_time() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    pack(one.path()).unwrap();
    pack(other.path()).unwrap();
    // Again over what is there.
    pack(other.path()).unwrap();
    let (one, other) = (files(one.path()), files(other.path()));
    assert_eq!(one.len(), 5, "layout, index, manifest, configuration, layer");
    assert!(one == other);
    for (path, content) in one {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.starts_with(BLOBS) {
            assert_eq!(name, format!("{:x}", sha256(&content)));
        }
    }
}

#[test]
fn the_layer_holds_the_program_and_its_user() {
    let layer = layer().unwrap();
    let mut archive = tar::Archive::new(layer.as_slice());
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let (mode, time) = (header.mode().unwrap(), header.mtime().unwrap());
        let owner = (header.uid().unwrap(), header.gid().unwrap());
        assert_eq!((time, owner), (0, (0, 0)));
        let path = entry.path().unwrap().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        found.push((path, mode, content));
    }
    let expected = [
        (PathBuf::from("etc/"), 0o755, Vec::new()),
        (PathBuf::from("etc/passwd"), 0o644, b"service:x:65532:65532::/:/service\n".to_vec()),
        (PathBuf::from("service"), 0o755, PROGRAM.to_vec()),
    ];
    assert!(found == expected);
}

#[test]
fn others_read_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    pack(&image).unwrap();
    let said = tool("skopeo", &["inspect", "--config", &format!("oci:{}:latest", image.display())]);
    let config: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(config["architecture"], ARCHITECTURE);
    assert_eq!(config["os"], "linux");
    assert_eq!(
        config["config"],
        json!({
            "Entrypoint": ["/service"],
            "ExposedPorts": { "8080/tcp": {} },
            "User": "service",
            "WorkingDir": "/",
        })
    );
    // Reads and checks every blob.
    let copy = folder.path().join("copy");
    let (from, to) = (format!("oci:{}", image.display()), format!("oci:{}", copy.display()));
    tool("skopeo", &["copy", &from, &to]);
    let bundle = folder.path().join("bundle");
    let reference = format!("{}:latest", image.display());
    tool("umoci", &["unpack", "--rootless", "--image", &reference, bundle.to_str().unwrap()]);
    assert!(fs::read(bundle.join("rootfs/service")).unwrap() == PROGRAM);
}

#[test]
fn the_workload_is_what_the_image_offers() {
    let workload = workload(Path::new("some/image"));
    let [container] = workload.containers.as_slice() else { panic!("one container") };
    assert_eq!(container.image, "some/image");
    assert_eq!(container.container.ports, [8080]);
    let reservation = workload.reservation;
    assert_eq!((reservation.cpu, reservation.memory, reservation.storage), (100, 16, 4));
    assert_eq!(workload.pids_limit, 16);
}

/// Everything in a folder, by its path within.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let within = path.strip_prefix(folder).unwrap().to_owned();
                found.insert(within, fs::read(path).unwrap());
            }
        }
    }
    found
}

fn tool(name: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(name).args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("{name} does not start ({error}): run script/setup"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
