//! Names the process that listens on a port, for the error message about a busy one.

use std::fs;
use std::path::Path;

/// The process that listens on `port`, as `name (pid N)` where it is another one; `None` when the system does not say, as
/// for processes of other users.
pub(crate) fn of_port(port: u16) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let sockets: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        if !holds(&process.path().join("fd"), &sockets) {
            return None;
        }
        if pid == std::process::id() {
            return Some(format!("another listener of this process, pid {pid}"));
        }
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        Some(format!("{} (pid {pid})", name.trim()))
    })
}

fn holds(descriptors: &Path, sockets: &[String]) -> bool {
    fs::read_dir(descriptors).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            fs::read_link(entry.path())
                .is_ok_and(|target| sockets.iter().any(|socket| target.as_os_str() == &**socket))
        })
    })
}

/// Inodes of the sockets in state LISTEN (0A) on `port`, from a table of `/proc/net/tcp`.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split_whitespace().skip(1);
            let (_, local_port) = columns.next()?.rsplit_once(':')?;
            let state = columns.nth(1)?;
            let inode = columns.nth(5)?;
            let matches = state == "0A" && u16::from_str_radix(local_port, 16) == Ok(port);
            matches.then(|| inode.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let holder = of_port(port).unwrap();
        assert_eq!(holder, format!("another listener of this process, pid {}", std::process::id()));
    }

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 111 1 0 100 0 0 10 0\n\
             1: 0100007F:1F90 0100007F:A001 01 00000000:00000000 00:00000000 00000000  0 0 222 1 0 100 0 0 10 0\n\
             2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 333 1 0 100 0 0 10 0\n";
        assert_eq!(listening_inodes(table, 8080), ["111"]);
    }
}
