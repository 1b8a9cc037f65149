//! `getsockopt(TCP_INFO)` on one socket, for kernels of any age.

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct tcp_info` of linux/tcp.h up to `tcpi_snd_wnd` (Linux 5.4). The kernel only ever appends
/// to it: an older kernel fills less and a newer one has more to tell, and both say how much.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawTcpInfo {
    state: u8,
    ca_state: u8,
    retransmits: u8,
    probes: u8,
    backoff: u8,
    options: u8,
    window_scales: u8,
    flags: u8,
    rto: u32,
    ato: u32,
    snd_mss: u32,
    rcv_mss: u32,
    unacked: u32,
    sacked: u32,
    lost: u32,
    retrans: u32,
    fackets: u32,
    last_data_sent: u32,
    last_ack_sent: u32,
    last_data_recv: u32,
    last_ack_recv: u32,
    pmtu: u32,
    rcv_ssthresh: u32,
    rtt: u32,
    rttvar: u32,
    snd_ssthresh: u32,
    snd_cwnd: u32,
    advmss: u32,
    reordering: u32,
    rcv_rtt: u32,
    rcv_space: u32,
    total_retrans: u32,
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
    bytes_received: u64,
    segs_out: u32,
    segs_in: u32,
    notsent_bytes: u32,
    min_rtt: u32,
    data_segs_in: u32,
    data_segs_out: u32,
    delivery_rate: u64,
    busy_time: u64,
    rwnd_limited: u64,
    sndbuf_limited: u64,
    delivered: u32,
    delivered_ce: u32,
    bytes_sent: u64,
    bytes_retrans: u64,
    dsack_dups: u32,
    reord_seen: u32,
    rcv_ooopack: u32,
    snd_wnd: u32,
}

// The layout in linux/tcp.h, in bytes. A field that moves is a bug on this side.
const _: () = {
    assert!(size_of::<RawTcpInfo>() == 232);
    assert!(align_of::<RawTcpInfo>() == align_of::<u64>());
    assert!(offset_of!(RawTcpInfo, rto) == 8);
    assert!(offset_of!(RawTcpInfo, unacked) == 24);
    assert!(offset_of!(RawTcpInfo, lost) == 32);
    assert!(offset_of!(RawTcpInfo, rtt) == 68);
    assert!(offset_of!(RawTcpInfo, rttvar) == 72);
    assert!(offset_of!(RawTcpInfo, snd_cwnd) == 80);
    assert!(offset_of!(RawTcpInfo, total_retrans) == 100);
    assert!(offset_of!(RawTcpInfo, bytes_acked) == 120);
    assert!(offset_of!(RawTcpInfo, bytes_received) == 128);
    assert!(offset_of!(RawTcpInfo, segs_out) == 136);
    assert!(offset_of!(RawTcpInfo, segs_in) == 140);
    assert!(offset_of!(RawTcpInfo, notsent_bytes) == 144);
    assert!(offset_of!(RawTcpInfo, min_rtt) == 148);
    assert!(offset_of!(RawTcpInfo, delivery_rate) == 160);
    assert!(offset_of!(RawTcpInfo, bytes_sent) == 200);
    assert!(offset_of!(RawTcpInfo, bytes_retrans) == 208);
    assert!(offset_of!(RawTcpInfo, snd_wnd) == 228);
};

/// What every kernel since 2.6 fills: up to and including `total_retrans`.
const BASE_LEN: usize = offset_of!(RawTcpInfo, pacing_rate);

/// The kernel's view of one TCP connection. Totals count from the start of the connection; fields
/// that this kernel does not report are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfoSample {
    /// The state by its number in the kernel; 1 is established.
    pub state: u8,
    /// Smoothed round-trip time; 0 before the first measurement.
    pub srtt_us: u32,
    /// Its mean deviation.
    pub rttvar_us: u32,
    /// Current retransmission timeout.
    pub rto_us: u32,
    /// Segments sent again, SYNs included: a total.
    pub retransmits_total: u32,
    /// Segments sent and not yet acknowledged, now.
    pub unacked: u32,
    /// Segments taken for lost, now.
    pub lost: u32,
    /// Congestion window in segments, now.
    pub snd_cwnd: u32,
    /// Bytes the peer has acknowledged: a total, in which SYN and FIN count 1 each. Linux 4.1.
    pub bytes_acked: Option<u64>,
    /// Bytes received in order: a total, in which FIN counts 1. Linux 4.1.
    pub bytes_received: Option<u64>,
    /// Segments sent: a total. Linux 4.2.
    pub segs_out: Option<u32>,
    /// Segments received: a total. Linux 4.2.
    pub segs_in: Option<u32>,
    /// Bytes in the send buffer that were not sent yet, now. Linux 4.6.
    pub notsent_bytes: Option<u32>,
    /// Smallest round-trip time of the last minutes. Linux 4.6.
    pub min_rtt_us: Option<u32>,
    /// Latest measured delivery rate, bytes per second. Linux 4.9.
    pub delivery_rate: Option<u64>,
    /// Bytes sent, those sent again included: a total. Linux 4.19.
    pub bytes_sent: Option<u64>,
    /// Of them, bytes sent again: a total. Linux 4.19.
    pub bytes_retrans: Option<u64>,
}

/// Reads the kernel's view of a TCP socket. Costs one system call of about 0.4 us.
///
/// # Errors
///
/// `ENOPROTOOPT` or `EOPNOTSUPP` when it is not a TCP socket; `Unsupported` when the kernel fills
/// less of the structure than Linux 2.6 did.
pub fn tcp_info(socket: BorrowedFd<'_>) -> io::Result<TcpInfoSample> {
    let mut raw = RawTcpInfo::default();
    let len = read_option(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut raw)?;
    decode(&raw, len)
}

/// A number the kernel gives to a socket once and to no other (`SO_COOKIE`, Linux 4.6).
pub(crate) fn socket_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    read_option(socket, libc::SOL_SOCKET, libc::SO_COOKIE, &mut cookie)?;
    Ok(cookie)
}

/// Values that the kernel may write any bytes into.
trait PlainBytes {}
impl PlainBytes for u64 {}
impl PlainBytes for RawTcpInfo {}

/// Reads a socket option into `value` and returns how many bytes of it were filled.
#[expect(unsafe_code, reason = "the standard library reads no socket options of this kind")]
fn read_option<T: PlainBytes>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &mut T,
) -> io::Result<usize> {
    let room = size_of::<T>();
    let mut len = libc::socklen_t::try_from(room).map_err(io::Error::other)?;
    // SAFETY: `socket` is open for the length of the borrow. The kernel writes at most `len` bytes
    // to `value`, which has that size, is exclusively ours and is valid for any bytes (it is made
    // of integers), and the number of bytes written to `len`.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_mut(value).cast::<libc::c_void>(),
            &raw mut len,
        )
    };
    if status == 0 {
        Ok(usize::try_from(len).map_or(room, |len| len.min(room)))
    } else {
        Err(io::Error::last_os_error())
    }
}

fn decode(raw: &RawTcpInfo, len: usize) -> io::Result<TcpInfoSample> {
    if len < BASE_LEN {
        let text =
            format!("the kernel fills {len} bytes of tcp_info, {BASE_LEN} are needed; ignore it");
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    let u32_at = |value: u32, offset: usize| (len >= offset + 4).then_some(value);
    let u64_at = |value: u64, offset: usize| (len >= offset + 8).then_some(value);
    Ok(TcpInfoSample {
        state: raw.state,
        srtt_us: raw.rtt,
        rttvar_us: raw.rttvar,
        rto_us: raw.rto,
        retransmits_total: raw.total_retrans,
        unacked: raw.unacked,
        lost: raw.lost,
        snd_cwnd: raw.snd_cwnd,
        bytes_acked: u64_at(raw.bytes_acked, offset_of!(RawTcpInfo, bytes_acked)),
        bytes_received: u64_at(raw.bytes_received, offset_of!(RawTcpInfo, bytes_received)),
        segs_out: u32_at(raw.segs_out, offset_of!(RawTcpInfo, segs_out)),
        segs_in: u32_at(raw.segs_in, offset_of!(RawTcpInfo, segs_in)),
        notsent_bytes: u32_at(raw.notsent_bytes, offset_of!(RawTcpInfo, notsent_bytes)),
        min_rtt_us: u32_at(raw.min_rtt, offset_of!(RawTcpInfo, min_rtt))
            // The kernel's "not measured yet".
            .filter(|rtt| *rtt != u32::MAX),
        delivery_rate: u64_at(raw.delivery_rate, offset_of!(RawTcpInfo, delivery_rate)),
        bytes_sent: u64_at(raw.bytes_sent, offset_of!(RawTcpInfo, bytes_sent)),
        bytes_retrans: u64_at(raw.bytes_retrans, offset_of!(RawTcpInfo, bytes_retrans)),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        (client, server)
    }

    #[test]
    fn a_connection_shows_its_bytes_and_round_trip() {
        let (mut client, mut server) = pair();
        client.write_all(&[7; 5000]).unwrap();
        let mut read = [0; 5000];
        server.read_exact(&mut read).unwrap();
        server.write_all(&[8; 300]).unwrap();
        client.read_exact(&mut read[..300]).unwrap();

        let info = tcp_info(client.as_fd()).unwrap();
        assert_eq!(info.state, 1, "established");
        assert!(info.srtt_us > 0, "{info:?}");
        assert!(info.rto_us > 0 && info.snd_cwnd > 0, "{info:?}");
        assert_eq!(info.retransmits_total, 0);
        // One more than was sent: the SYN. The answer carried the acknowledgement.
        assert_eq!(info.bytes_acked, Some(5001));
        assert_eq!(info.bytes_received, Some(300));
        assert_eq!(tcp_info(server.as_fd()).unwrap().bytes_received, Some(5000));
    }

    #[test]
    fn bytes_nobody_reads_stay_unsent() {
        let (mut client, server) = pair();
        client.set_nonblocking(true).unwrap();
        let chunk = [0; 65536];
        while client.write(&chunk).is_ok() {}
        let info = tcp_info(client.as_fd()).unwrap();
        assert!(info.notsent_bytes.is_some_and(|bytes| bytes > 0), "{info:?}");
        drop(server);
    }

    #[test]
    fn what_is_no_tcp_socket_is_an_error() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(tcp_info(udp.as_fd()).is_err());
        let file = std::fs::File::open("/proc/self/status").unwrap();
        let error = tcp_info(file.as_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
    }

    #[test]
    fn cookies_tell_sockets_apart() {
        let (client, server) = pair();
        let cookie = socket_cookie(client.as_fd()).unwrap();
        assert_eq!(socket_cookie(client.as_fd()).unwrap(), cookie);
        assert_ne!(socket_cookie(server.as_fd()).unwrap(), cookie);
    }

    #[test]
    fn an_older_kernel_fills_less_and_says_so() {
        let raw = RawTcpInfo {
            rtt: 120,
            total_retrans: 3,
            bytes_acked: 9,
            bytes_received: 8,
            segs_out: 7,
            min_rtt: u32::MAX,
            ..RawTcpInfo::default()
        };
        let linux_3 = decode(&raw, 104).unwrap();
        assert_eq!((linux_3.srtt_us, linux_3.retransmits_total), (120, 3));
        assert_eq!((linux_3.bytes_acked, linux_3.segs_out), (None, None));
        // Half a field is no field.
        assert_eq!(decode(&raw, 135).unwrap().bytes_received, None);
        let linux_4_1 = decode(&raw, 136).unwrap();
        assert_eq!((linux_4_1.bytes_received, linux_4_1.segs_out), (Some(8), None));
        assert_eq!(decode(&raw, 232).unwrap().min_rtt_us, None);

        let error = decode(&raw, 103).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }
}
