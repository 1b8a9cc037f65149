//! The first process of a test's virtual machine, and the only one: it loads drivers, gives the network
//! card the address that QEMU's user network expects, and answers `ok` to every connection, as the
//! servers of the other tests do. What else it does is on the kernel's command line. It is built by the
//! test that needs it, with the compiler alone.

use std::ffi::{CString, c_char, c_int, c_ulong, c_void};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;

// Numbers of ioctl(2), reboot(2) and finit_module(2) on x86-64.
const SIOCSIFADDR: c_ulong = 0x8916;
const SIOCSIFNETMASK: c_ulong = 0x891c;
const SIOCGIFFLAGS: c_ulong = 0x8913;
const SIOCSIFFLAGS: c_ulong = 0x8914;
const IFF_UP: u16 = 1;
const POWER_OFF: c_int = 0x4321_fedc;
const FINIT_MODULE: i64 = 313;
/// `EV_KEY` and `KEY_POWER` of linux/input-event-codes.h.
const POWER_KEY: (u16, u16) = (1, 116);
const SECTOR: usize = 512;

unsafe extern "C" {
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn syscall(number: i64, ...) -> i64;
    fn reboot(how: c_int) -> c_int;
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
}

/// `struct ifreq`.
#[repr(C)]
struct Request {
    name: [u8; 16],
    data: [u8; 24],
}

fn main() {
    for (kind, target) in [("devtmpfs", "/dev"), ("proc", "/proc")] {
        mounted(kind, target);
    }
    let told = fs::read_to_string("/proc/cmdline").unwrap();
    let is_set = |name: &str| told.split_whitespace().any(|word| word == name);
    for name in fs::read_to_string("/modules/order").unwrap().lines() {
        load(name);
    }
    up("lo", [127, 0, 0, 1]);
    up("eth0", [10, 0, 2, 15]);
    for number in 0..8 {
        if let Ok(device) = File::open(format!("/dev/input/event{number}")) {
            std::thread::spawn(|| heed_button(device));
        }
    }
    let listener = TcpListener::bind(("0.0.0.0", 80)).unwrap();
    println!("guest: it listens");
    for mut stream in listener.incoming().flatten() {
        if is_set("guest.panic") {
            // The kernel panics when its first process ends.
            std::process::exit(1);
        }
        // With a disk its first sector holds a number, which `+` adds one to.
        let mut order = [0];
        let answer = match is_set("guest.disk") && stream.read_exact(&mut order).is_ok() {
            true => count(u64::from(order == *b"+")),
            false => "ok".to_owned(),
        };
        if stream.write_all(answer.as_bytes()).is_err() {}
    }
}

fn mounted(kind: &str, target: &str) {
    let (kind, target) = (CString::new(kind).unwrap(), CString::new(target).unwrap());
    let done = unsafe { mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    assert_eq!(done, 0, "mount {target:?}: {}", std::io::Error::last_os_error());
}

fn load(name: &str) {
    let file = File::open(format!("/modules/{name}")).unwrap();
    let done = unsafe { syscall(FINIT_MODULE, file.as_raw_fd(), c"".as_ptr(), 0) };
    if done != 0 {
        println!("guest: module {name}: {}", std::io::Error::last_os_error());
    }
}

fn up(name: &str, address: [u8; 4]) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let ask = |number: c_ulong, data: &[u8]| {
        let mut request = Request { name: [0; 16], data: [0; 24] };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        request.data[..data.len()].copy_from_slice(data);
        let done = unsafe { ioctl(socket.as_raw_fd(), number, &raw mut request) };
        assert_eq!(done, 0, "{name}, {number:x}: {}", std::io::Error::last_os_error());
        request.data
    };
    let inet = |ip: [u8; 4]| [2, 0, 0, 0, ip[0], ip[1], ip[2], ip[3]];
    ask(SIOCSIFADDR, &inet(address));
    ask(SIOCSIFNETMASK, &inet([255, 255, 255, 0]));
    let flags = ask(SIOCGIFFLAGS, &[]);
    let flags = u16::from_ne_bytes([flags[0], flags[1]]) | IFF_UP;
    ask(SIOCSIFFLAGS, &flags.to_ne_bytes());
}

/// Waits for the power button; other devices never press it.
fn heed_button(mut device: File) {
    let mut event = [0; 24];
    while device.read_exact(&mut event).is_ok() {
        let number = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
        if (number(16), number(18)) == POWER_KEY {
            println!("guest: it powers off");
            unsafe { reboot(POWER_OFF) };
        }
    }
}

/// So many more than the disk says, written to the disk and through to it.
fn count(more: u64) -> String {
    let mut disk = File::options().read(true).write(true).open("/dev/vda").unwrap();
    let mut sector = [0; SECTOR];
    disk.read_exact(&mut sector).unwrap();
    let text: String = sector.iter().take_while(|byte| **byte != 0).map(|b| *b as char).collect();
    let next = (text.parse::<u64>().unwrap_or(0) + more).to_string();
    sector.fill(0);
    sector[..next.len()].copy_from_slice(next.as_bytes());
    disk.seek(SeekFrom::Start(0)).unwrap();
    disk.write_all(&sector).unwrap();
    disk.sync_all().unwrap();
    next
}
