//! Ports of this machine: whether one is free, and who holds it.
//!
//! Who listens where is read from the tables of the kernel, and whose socket that is from the processes' open files. So
//! an ordinary user learns of their own processes alone.

use std::{
    fmt,
    fs::{self, File},
    io::{self, BufRead, BufReader, ErrorKind},
    net::{Ipv4Addr, TcpListener},
};

/// Where the kernel lists its sockets.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// The state of a socket that listens, in these tables.
const LISTENS: &str = "0A";

/// Somebody else listens where a part of the market should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("port {port} of 127.0.0.1 is taken by {}", shown(holder.as_ref()))]
pub struct PortTaken {
    /// The port.
    pub port: u16,
    /// Who has it; `None` where this user may not know.
    pub holder: Option<PortHolder>,
}

/// A process that listens at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortHolder {
    /// The name of its program, at most 15 bytes of it.
    pub name: String,
    /// Its process id.
    pub pid: u32,
}

impl PortTaken {
    /// What it means that nobody could listen at the port; `None` where that is not because somebody else does.
    pub(crate) fn of(error: &io::Error, port: u16) -> Option<Self> {
        (error.kind() == ErrorKind::AddrInUse).then(|| Self { port, holder: holder(port) })
    }
}

impl fmt::Display for PortHolder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` (process {})", self.name, self.pid)
    }
}

fn shown(holder: Option<&PortHolder>) -> String {
    holder.map_or_else(|| "a program of another user".to_owned(), ToString::to_string)
}

/// Listens at the port of the loopback interface and stops at once. Port 0 is free always.
pub(crate) fn try_out(port: u16) -> io::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop)
}

/// Who listens at the port of the loopback interface.
fn holder(port: u16) -> Option<PortHolder> {
    let tables = TABLES.iter().filter_map(|table| File::open(table).ok());
    let lines = tables.flat_map(|table| BufReader::new(table).lines().map_while(Result::ok));
    let sockets: Vec<String> = lines.filter_map(|line| listening(&line, port)).collect();
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut pids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    let pid = pids.find(|pid: &u32| has_open(*pid, &sockets))?;
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(PortHolder { name: String::from_utf8_lossy(&name).trim_end().to_owned(), pid })
}

/// The socket of a table's line, as the open files of processes are called, where it listens at this port so that
/// nobody else can on the loopback interface.
fn listening(line: &str, port: u16) -> Option<String> {
    let mut fields = line.split_whitespace();
    let (address, listens_at) = fields.nth(1)?.split_once(':')?;
    let is_here = address.bytes().all(|digit| digit == b'0') || address.ends_with(&loopback());
    let is_meant = u16::from_str_radix(listens_at, 16) == Ok(port) && is_here;
    let listens = fields.nth(1)? == LISTENS;
    let inode = fields.nth(5)?;
    (is_meant && listens).then(|| format!("socket:[{inode}]"))
}

/// The loopback address as the tables spell it, in the order of the machine's bytes; behind zeros or a prefix where the
/// socket is of version 6.
fn loopback() -> String {
    format!("{:08X}", u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets()))
}

fn has_open(pid: u32, sockets: &[String]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr};

    use super::*;

    #[test]
    fn a_port_is_free_again_when_its_holder_is_gone() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = try_out(port).unwrap_err();
        let taken = PortTaken::of(&error, port).unwrap();
        let name = fs::read_to_string("/proc/self/comm").unwrap().trim_end().to_owned();
        let pid = std::process::id();
        assert_eq!(taken, PortTaken { port, holder: Some(PortHolder { name, pid }) });
        let text = taken.to_string();
        assert!(text.contains(&format!("port {port} ")), "{text}");
        assert!(text.contains(&format!("(process {pid})")), "{text}");
        drop(listener);
        try_out(port).unwrap();
        assert_eq!(holder(port), None);
    }

    #[test]
    fn who_listens_at_every_address_holds_the_loopback_as_well() {
        for any in [SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), (Ipv6Addr::UNSPECIFIED, 0).into()]
        {
            // A machine may have no addresses of version 6.
            let Ok(listener) = TcpListener::bind(any) else { continue };
            let port = listener.local_addr().unwrap().port();
            assert_eq!(holder(port).map(|holder| holder.pid), Some(std::process::id()), "{any}");
        }
    }

    #[test]
    fn what_is_wrong_otherwise_is_no_taken_port() {
        let denied = io::Error::from(ErrorKind::PermissionDenied);
        assert_eq!(PortTaken::of(&denied, 80), None);
    }

    #[test]
    fn only_whoever_listens_at_this_port_and_interface_counts() {
        let line = |address: &str, state: &str| {
            format!(
                "   7: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0"
            )
        };
        let here = format!("{}:1F90", loopback());
        let socket = Some("socket:[4242]".to_owned());
        assert_eq!(listening(&line(&here, "0A"), 8080), socket);
        assert_eq!(listening(&line("00000000:1F90", "0A"), 8080), socket);
        assert_eq!(listening(&line(&here, "01"), 8080), None, "a connection");
        assert_eq!(listening(&line(&here, "0A"), 8081), None, "another port");
        assert_eq!(listening(&line("0501A8C0:1F90", "0A"), 8080), None, "another interface");
        for torn in ["", "sl local_address", "   7:", &line(&here, "0A")[..60]] {
            assert_eq!(listening(torn, 8080), None, "{torn}");
        }
    }
}
