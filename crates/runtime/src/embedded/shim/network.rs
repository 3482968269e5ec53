//! The network namespace of a container: entering it, and its loopback device.

use std::{fs::File, io};

use rustix::{
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto,
        socket_with,
    },
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::{ShimError, io_failed};
use crate::embedded::process::ProcessId;

/// `RTM_NEWLINK`
const NEW_LINK: u16 = 16;
/// `NLMSG_ERROR`, which also carries success
const ERROR: u16 = 2;
/// `NLM_F_REQUEST | NLM_F_ACK`
const REQUEST: u16 = 0x1 | 0x4;
/// `IFF_UP`
const UP: u32 = 1;
/// The loopback device is the first of every namespace.
const LOOPBACK: i32 = 1;

/// Makes the sockets of this thread belong to the network of the process from now on. What it listens on already stays
/// where it is.
pub(super) fn enter(process: ProcessId) -> Result<(), ShimError> {
    let link = File::open(format!("/proc/{}/ns/net", process.number()));
    let link = link.map_err(io_failed("open the container's network"))?;
    if !process.is_alive() {
        return Err(io_failed("open the container's network")(io::ErrorKind::NotFound));
    }
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&link), Some(LinkNameSpaceType::Network))
        .map_err(io_failed("enter the container's network"))
}

/// Brings up the loopback device of this thread's network.
pub(super) fn bring_loopback_up() -> io::Result<()> {
    let kind = (AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC);
    // Protocol 0 of netlink is the one for links and routes.
    let socket = socket_with(kind.0, kind.1, kind.2, None)?;
    sendto(&socket, &request(), SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 1_024];
    let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    match error_of(&answer[..length]) {
        Some(0) => Ok(()),
        Some(number) => Err(io::Error::from_raw_os_error(number.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A netlink header (length, kind, flags, sequence, port) and an `ifinfomsg` (family, padding, kind, index, flags,
/// which flags change), in the machine's byte order.
fn request() -> Vec<u8> {
    let mut message = Vec::with_capacity(32);
    message.extend(32_u32.to_ne_bytes());
    message.extend(NEW_LINK.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([0; 4]);
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    message
}

/// The error number in an acknowledgement: zero, or negative.
fn error_of(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let number = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == ERROR).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        thread,
    };

    use rustix::thread::UnshareFlags;

    use super::*;
    use crate::embedded::sys;

    #[test]
    fn the_loopback_of_a_new_network_comes_up() {
        // In a thread of its own, whose namespace ends with it.
        let before_and_after = thread::spawn(|| {
            sys::unshare(UnshareFlags::NEWNET).expect("making a network needs root: run as root");
            let bound = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let address = bound.local_addr().unwrap();
            let before = TcpStream::connect(address).is_ok();
            bring_loopback_up().unwrap();
            (before, TcpStream::connect(address).is_ok())
        });
        assert_eq!(before_and_after.join().unwrap(), (false, true));
    }

    #[test]
    fn an_answer_of_another_kind_is_no_success() {
        assert_eq!(error_of(&[0; 4]), None);
        assert_eq!(error_of(&request()), None);
        let mut refusal = request();
        refusal[4..6].copy_from_slice(&ERROR.to_ne_bytes());
        refusal[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(error_of(&refusal), Some(-1));
    }
}
