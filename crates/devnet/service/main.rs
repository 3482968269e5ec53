//! The service that the demonstration runs: a greeting over HTTP, in one static program without any library.
//!
//! It answers one connection after the other, and gives each a few seconds, so that a slow caller delays others and
//! cannot keep them out. As the first process of a container it gets only the signals that it asks for: SIGTERM and
//! SIGINT end it with status 0.
//!
//! | variable | meaning |
//! |---|---|
//! | `PORT` | TCP port, 1 to 65535; 8080 where it is not set |
//! | `GREETING` | what it says, at most 256 bytes of it |
//!
//! Exit status: 0 after a signal, 2 where `PORT` is no port, 3 where the port cannot be listened on, 101 for a defect.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

const DEFAULT_PORT: u16 = 8080;
const DEFAULT_GREETING: &[u8] = b"hello from a container that somebody else runs";
const MAX_GREETING: usize = 256;

/// The longest head of a request, in bytes.
const MAX_REQUEST: usize = 4096;

/// The most that one connection takes of everybody's time, in seconds, give or take one wait.
const MAX_CONNECTION: i64 = 3;

/// The longest wait for a caller to send or to take something, in seconds.
const MAX_WAIT: i64 = 1;

const BAD_PORT: usize = 2;
const CANNOT_LISTEN: usize = 3;
const DEFECT: usize = 101;

// The stack begins with the number of arguments, the arguments, a null, the environment, a null
// (System V ABI, "Initial Stack and Register State"). No frame comes before this one.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor %ebp, %ebp",
    "mov %rsp, %rdi",
    "and $-16, %rsp",
    "call {run}",
    "ud2",
    run = sym run,
    options(att_syntax)
);
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "mov x30, #0",
    "mov x0, sp",
    "bl {run}",
    "brk #1",
    run = sym run
);

extern "C" fn run(stack: *const usize) -> ! {
    // SAFETY: `_start` passes the stack as the kernel made it.
    let environment = unsafe { Environment::new(stack) };
    let port = match environment.get(b"PORT=") {
        Some(text) => parse_port(text).unwrap_or_else(|| exit(BAD_PORT)),
        None => DEFAULT_PORT,
    };
    let greeting = environment.get(b"GREETING=").unwrap_or(DEFAULT_GREETING);
    let greeting = greeting.get(..MAX_GREETING).unwrap_or(greeting);
    on_signals();
    let Some(listener) = listen(port) else { exit(CANNOT_LISTEN) };
    // Whoever started it may wait for this line.
    let _ = system::write(1, b"listening\n");
    loop {
        if let Some(connection) = system::accept(listener) {
            answer(connection, greeting);
            system::close(connection);
        }
    }
}

/// The environment as the kernel laid it out.
#[derive(Clone, Copy)]
struct Environment {
    first: *const *const u8,
}

impl Environment {
    /// # Safety
    ///
    /// `stack` is the stack with which the kernel started this process.
    unsafe fn new(stack: *const usize) -> Self {
        // SAFETY: the count stands first, and as many arguments and a null follow it.
        unsafe { Self { first: stack.add(1 + *stack + 1).cast() } }
    }

    /// What follows `prefix`, a name and its `=`.
    fn get(self, prefix: &[u8]) -> Option<&'static [u8]> {
        let mut entry = self.first;
        loop {
            // SAFETY: a null ends the list, and nothing is read after it; each entry ends with a zero byte and lives
            // as long as the process.
            let text = unsafe {
                let start = *entry;
                if start.is_null() {
                    return None;
                }
                let mut length = 0;
                // Volatile, or the loop would be compiled into a call of `strlen`, which is not there.
                while start.add(length).read_volatile() != 0 {
                    length += 1;
                }
                entry = entry.add(1);
                core::slice::from_raw_parts(start, length)
            };
            if let Some(value) = text.strip_prefix(prefix) {
                return Some(value);
            }
        }
    }
}

fn parse_port(text: &[u8]) -> Option<u16> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |byte: &u8| u16::from(byte - b'0');
    let port =
        text.iter().try_fold(0_u16, |port, byte| port.checked_mul(10)?.checked_add(digit(byte)))?;
    if port == 0 { None } else { Some(port) }
}

fn listen(port: u16) -> Option<usize> {
    let socket = system::tcp_socket()?;
    system::reuse_address(socket)?;
    system::bind(socket, port)?;
    system::listen(socket)?;
    Some(socket)
}

/// Reads one request and answers it. A caller that is too slow gets nothing.
fn answer(connection: usize, greeting: &[u8]) {
    let Some(()) = system::limit_waits(connection, MAX_WAIT) else { return };
    let deadline = system::seconds() + MAX_CONNECTION;
    let mut request = [0; MAX_REQUEST];
    let mut length = 0;
    let response = loop {
        let Some(free) = request.get_mut(length..) else { return };
        if free.is_empty() {
            break Response {
                status: b"431 Request Header Fields Too Large",
                body: b"too long",
                has_body: true,
            };
        }
        match system::receive(connection, free) {
            Some(read) if read > 0 => length += read,
            _ => return,
        }
        let read = request.get(..length).unwrap_or(&[]);
        if read.windows(4).any(|end| end == b"\r\n\r\n") {
            break respond(read, greeting);
        }
        if system::seconds() >= deadline {
            return;
        }
    };
    let mut text = Text { bytes: [0; 1024], length: 0 };
    response.write(&mut text);
    let mut rest = text.bytes.get(..text.length).unwrap_or(&[]);
    while !rest.is_empty() && system::seconds() < deadline {
        match system::send(connection, rest) {
            Some(sent) if sent > 0 => rest = rest.get(sent..).unwrap_or(&[]),
            _ => return,
        }
    }
}

/// What is answered.
struct Response<'a> {
    status: &'static [u8],
    body: &'a [u8],
    has_body: bool,
}

/// The answer to a whole head of a request (RFC 9112, section 3).
fn respond<'a>(request: &[u8], greeting: &'a [u8]) -> Response<'a> {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or(&[]);
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, words.next())
    else {
        return Response { status: b"400 Bad Request", body: b"not HTTP", has_body: true };
    };
    if !version.starts_with(b"HTTP/1.") {
        return Response { status: b"400 Bad Request", body: b"not HTTP/1", has_body: true };
    }
    let has_body = match method {
        b"GET" => true,
        b"HEAD" => false,
        _ => {
            let status = b"405 Method Not Allowed\r\nAllow: GET, HEAD";
            return Response { status, body: b"only GET and HEAD", has_body: true };
        }
    };
    let path = target.split(|byte| *byte == b'?').next().unwrap_or(&[]);
    if path == b"/" {
        Response { status: b"200 OK", body: greeting, has_body }
    } else {
        Response { status: b"404 Not Found", body: b"there is only /", has_body }
    }
}

impl Response<'_> {
    fn write(&self, text: &mut Text) {
        text.push(b"HTTP/1.1 ");
        text.push(self.status);
        text.push(
            b"\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: ",
        );
        text.push_number(self.body.len() + 1);
        text.push(b"\r\n\r\n");
        if self.has_body {
            text.push(self.body);
            text.push(b"\n");
        }
    }
}

/// A response in the making. It is larger than the longest one; what does not fit is left out.
struct Text {
    bytes: [u8; 1024],
    length: usize,
}

impl Text {
    fn push(&mut self, more: &[u8]) {
        let free = self.bytes.iter_mut().skip(self.length);
        for (place, byte) in free.zip(more) {
            *place = *byte;
            self.length += 1;
        }
    }

    /// A number below ten thousand.
    fn push_number(&mut self, number: usize) {
        let mut begun = false;
        for unit in [1000, 100, 10, 1] {
            let digit = number / unit % 10;
            begun |= digit > 0 || unit == 1;
            if begun {
                self.push(&[b'0' + digit as u8]);
            }
        }
    }
}

/// Ends the process on SIGINT and SIGTERM. The first process of a container is spared the signals it does not handle.
fn on_signals() {
    extern "C" fn end(_signal: i32) {
        exit(0)
    }
    for signal in [system::SIGINT, system::SIGTERM] {
        system::handle(signal, end);
    }
    // Whoever started it may have left them blocked.
    system::unblock_signals();
}

fn exit(status: usize) -> ! {
    system::exit(status)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(DEFECT)
}

/// The few system calls of Linux that are used. A failed one is `None`.
mod system {
    use super::asm;

    pub const SIGINT: usize = 2;
    pub const SIGTERM: usize = 15;

    const AF_INET: usize = 2;
    const SOCK_STREAM_CLOEXEC: usize = 1 | 0o2_000_000;
    const SOL_SOCKET: usize = 1;
    const SO_REUSEADDR: usize = 2;
    const SO_RCVTIMEO: usize = 20;
    const SO_SNDTIMEO: usize = 21;
    const MSG_NOSIGNAL: usize = 0x4000;
    const CLOCK_MONOTONIC: usize = 1;
    const SA_RESTORER: usize = 0x0400_0000;
    const SIG_SETMASK: usize = 2;
    /// Bytes of a set of signals.
    const SIGNAL_SET: usize = 8;
    const BACKLOG: usize = 128;

    #[cfg(target_arch = "x86_64")]
    mod number {
        pub const WRITE: usize = 1;
        pub const CLOSE: usize = 3;
        pub const RT_SIGACTION: usize = 13;
        pub const RT_SIGPROCMASK: usize = 14;
        pub const SOCKET: usize = 41;
        pub const SENDTO: usize = 44;
        pub const RECVFROM: usize = 45;
        pub const BIND: usize = 49;
        pub const LISTEN: usize = 50;
        pub const SETSOCKOPT: usize = 54;
        pub const CLOCK_GETTIME: usize = 228;
        pub const EXIT_GROUP: usize = 231;
        pub const ACCEPT4: usize = 288;
    }
    #[cfg(target_arch = "aarch64")]
    mod number {
        pub const WRITE: usize = 64;
        pub const CLOSE: usize = 57;
        pub const RT_SIGACTION: usize = 134;
        pub const RT_SIGPROCMASK: usize = 135;
        pub const SOCKET: usize = 198;
        pub const SENDTO: usize = 206;
        pub const RECVFROM: usize = 207;
        pub const BIND: usize = 200;
        pub const LISTEN: usize = 201;
        pub const SETSOCKOPT: usize = 208;
        pub const CLOCK_GETTIME: usize = 113;
        pub const EXIT_GROUP: usize = 94;
        pub const ACCEPT4: usize = 242;
    }

    /// # Safety
    ///
    /// What the arguments point to must be as this call wants it.
    #[cfg(target_arch = "x86_64")]
    unsafe fn call(number: usize, arguments: [usize; 6]) -> Option<usize> {
        let [a, b, c, d, e, f] = arguments;
        let result: isize;
        // SAFETY: the convention of the kernel: it changes these registers, and memory only as the caller vouches.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") number => result,
                in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
                lateout("rcx") _, lateout("r11") _,
            );
        }
        usize::try_from(result).ok()
    }

    /// # Safety
    ///
    /// What the arguments point to must be as this call wants it.
    #[cfg(target_arch = "aarch64")]
    unsafe fn call(number: usize, arguments: [usize; 6]) -> Option<usize> {
        let [a, b, c, d, e, f] = arguments;
        let result: isize;
        // SAFETY: the convention of the kernel: it changes x0, and memory only as the caller vouches.
        unsafe {
            asm!(
                "svc #0",
                in("x8") number,
                inlateout("x0") a => result,
                in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            );
        }
        usize::try_from(result).ok()
    }

    pub fn exit(status: usize) -> ! {
        loop {
            // SAFETY: takes no pointer.
            unsafe { call(number::EXIT_GROUP, [status, 0, 0, 0, 0, 0]) };
        }
    }

    pub fn write(file: usize, bytes: &[u8]) -> Option<usize> {
        // SAFETY: reads within the slice.
        unsafe { call(number::WRITE, [file, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) }
    }

    pub fn close(file: usize) {
        // SAFETY: takes no pointer.
        unsafe { call(number::CLOSE, [file, 0, 0, 0, 0, 0]) };
    }

    pub fn tcp_socket() -> Option<usize> {
        // SAFETY: takes no pointer.
        unsafe { call(number::SOCKET, [AF_INET, SOCK_STREAM_CLOEXEC, 0, 0, 0, 0]) }
    }

    /// Binds to a port of every address.
    pub fn bind(socket: usize, port: u16) -> Option<usize> {
        // `struct sockaddr_in`: the family in the machine's order, the port in the network's, no address, padding.
        let mut address = [0_u8; 16];
        let [high, low] = port.to_be_bytes();
        let [first, second] = (AF_INET as u16).to_ne_bytes();
        for (place, byte) in address.iter_mut().zip([first, second, high, low]) {
            *place = byte;
        }
        // SAFETY: the address has the length that is said.
        unsafe { call(number::BIND, [socket, address.as_ptr() as usize, address.len(), 0, 0, 0]) }
    }

    pub fn listen(socket: usize) -> Option<usize> {
        // SAFETY: takes no pointer.
        unsafe { call(number::LISTEN, [socket, BACKLOG, 0, 0, 0, 0]) }
    }

    pub fn accept(listener: usize) -> Option<usize> {
        // SAFETY: null pointers say that the caller's address is not wanted.
        unsafe { call(number::ACCEPT4, [listener, 0, 0, 0o2_000_000, 0, 0]) }
    }

    pub fn receive(socket: usize, place: &mut [u8]) -> Option<usize> {
        // SAFETY: writes within the slice; null pointers say that the sender's address is not wanted.
        unsafe {
            call(number::RECVFROM, [socket, place.as_mut_ptr() as usize, place.len(), 0, 0, 0])
        }
    }

    pub fn send(socket: usize, bytes: &[u8]) -> Option<usize> {
        let (start, length) = (bytes.as_ptr() as usize, bytes.len());
        // SAFETY: reads within the slice; a null pointer says that the socket is connected.
        unsafe { call(number::SENDTO, [socket, start, length, MSG_NOSIGNAL, 0, 0]) }
    }

    pub fn reuse_address(socket: usize) -> Option<()> {
        set_option(socket, SO_REUSEADDR, &1_u32)
    }

    pub fn limit_waits(socket: usize, seconds: i64) -> Option<()> {
        let time = [seconds, 0];
        set_option(socket, SO_RCVTIMEO, &time)?;
        set_option(socket, SO_SNDTIMEO, &time)
    }

    fn set_option<T>(socket: usize, option: usize, value: &T) -> Option<()> {
        let (start, length) = (core::ptr::from_ref(value) as usize, size_of::<T>());
        // SAFETY: reads within the value.
        unsafe { call(number::SETSOCKOPT, [socket, SOL_SOCKET, option, start, length, 0]) }?;
        Some(())
    }

    /// A clock that is never set.
    pub fn seconds() -> i64 {
        let mut time = [0_i64; 2];
        // SAFETY: writes a `struct timespec`, two numbers of 64 bits here.
        unsafe {
            call(number::CLOCK_GETTIME, [CLOCK_MONOTONIC, time.as_mut_ptr() as usize, 0, 0, 0, 0])
        };
        let [seconds, _] = time;
        seconds
    }

    /// Has `handler` called on a signal. It must not return: there is nothing that could restore what was interrupted.
    pub fn handle(signal: usize, handler: extern "C" fn(i32)) {
        let handler = handler as usize;
        // `struct sigaction` of the kernel: handler, flags, restorer, mask. x86_64 wants the flag and a restorer.
        let action = [handler, SA_RESTORER, handler, 0];
        let start = action.as_ptr() as usize;
        // SAFETY: the mask has the length that is said; a null pointer says that the former action is not wanted.
        unsafe { call(number::RT_SIGACTION, [signal, start, 0, SIGNAL_SET, 0, 0]) };
    }

    pub fn unblock_signals() {
        let none = [0_u8; SIGNAL_SET];
        let start = none.as_ptr() as usize;
        // SAFETY: the set has the length that is said; a null pointer says that the former set is not wanted.
        unsafe { call(number::RT_SIGPROCMASK, [SIG_SETMASK, start, 0, SIGNAL_SET, 0, 0]) };
    }
}

/// What the compiler may call for any piece of code; the C library, which has it elsewhere, is not linked.
mod memory {
    /// Named by the core library, which is compiled for unwinding; without unwinding it is never called.
    #[unsafe(no_mangle)]
    extern "C" fn rust_eh_personality() {}

    // Volatile, or the loops would be compiled into calls of themselves.

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        for index in 0..length {
            // SAFETY: the caller vouches for `length` bytes at both places.
            unsafe { to.add(index).write_volatile(from.add(index).read_volatile()) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        if to.addr() <= from.addr() {
            // SAFETY: as the caller vouches; forwards, nothing is overwritten before it is read.
            return unsafe { memcpy(to, from, length) };
        }
        for index in (0..length).rev() {
            // SAFETY: as the caller vouches; backwards, nothing is overwritten before it is read.
            unsafe { to.add(index).write_volatile(from.add(index).read_volatile()) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, value: i32, length: usize) -> *mut u8 {
        for index in 0..length {
            // SAFETY: the caller vouches for `length` bytes.
            unsafe { to.add(index).write_volatile(value as u8) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
        for index in 0..length {
            // SAFETY: the caller vouches for `length` bytes at both places.
            let (one, other) =
                unsafe { (left.add(index).read_volatile(), right.add(index).read_volatile()) };
            if one != other {
                return i32::from(one) - i32::from(other);
            }
        }
        0
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
        // SAFETY: as the caller vouches.
        unsafe { memcmp(left, right, length) }
    }
}
