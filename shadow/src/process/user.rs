//! Users and groups by name or number, as the system's own databases know them.

use std::ffi::{CStr, CString};

use crate::error::ProviderError;

/// Most that an entry of a database may take; groups list their members.
const LARGEST: usize = 1 << 20;

/// Whom a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Name and home directory, where the user is known by more than a number.
    pub(super) known: Option<(String, String)>,
}

/// Looks a user and a group up; without a group that of the user.
pub(super) fn account(user: &str, group: Option<&str>) -> Result<Account, ProviderError> {
    let unknown = |what: &str, name: &str, remedy: &str| {
        ProviderError::Other(format!("there is no {what} {name:?} on this machine; {remedy}"))
    };
    let failed = |name: &str| {
        let name = format!("{name:?} in the databases of users and groups");
        move |code| ProviderError::io("look up", name)(std::io::Error::from_raw_os_error(code))
    };
    let entry = match user.parse::<u32>() {
        Ok(uid) => user_by_id(uid),
        Err(_) => user_by_name(user),
    }
    .map_err(failed(user))?;
    let uid = match (&entry, user.parse::<u32>()) {
        (Some(entry), _) => entry.uid,
        (None, Ok(uid)) => uid,
        (None, Err(_)) => {
            return Err(unknown("user", user, "create it, or correct the provider's `user`"));
        }
    };
    let gid = match (group, &entry) {
        (Some(group), _) => match group.parse() {
            Ok(gid) => gid,
            Err(_) => group_by_name(group).map_err(failed(group))?.ok_or_else(|| {
                unknown("group", group, "create it, or correct the provider's `group`")
            })?,
        },
        (None, Some(entry)) => entry.gid,
        (None, None) => {
            let remedy = "give the provider a `group` as well, since none is known for it";
            return Err(unknown("user", user, remedy));
        }
    };
    Ok(Account { uid, gid, known: entry.map(|entry| (entry.name, entry.home)) })
}

struct Entry {
    uid: u32,
    gid: u32,
    name: String,
    home: String,
}

/// What a database said: an entry, that there is none, or the errno of why it cannot be asked.
type Asked<T> = Result<Option<T>, libc::c_int>;

fn user_by_name(name: &str) -> Asked<Entry> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    passwd(|entry, buffer, found| {
        #[expect(unsafe_code, reason = "only the C library asks all user databases")]
        // SAFETY: the name ends with NUL, and the others are valid for the time of the call, the
        // buffer for the length that is given.
        unsafe {
            libc::getpwnam_r(name.as_ptr(), entry, buffer.as_mut_ptr(), buffer.len(), found)
        }
    })
}

fn user_by_id(uid: u32) -> Asked<Entry> {
    passwd(|entry, buffer, found| {
        #[expect(unsafe_code, reason = "only the C library asks all user databases")]
        // SAFETY: all are valid for the time of the call, the buffer for the length that is given.
        unsafe {
            libc::getpwuid_r(uid, entry, buffer.as_mut_ptr(), buffer.len(), found)
        }
    })
}

type Passwd = *mut libc::passwd;

fn passwd(
    mut ask: impl FnMut(Passwd, &mut [libc::c_char], *mut Passwd) -> libc::c_int,
) -> Asked<Entry> {
    let mut buffer = vec![0; 1024];
    loop {
        #[expect(unsafe_code, reason = "a C structure of numbers and pointers to be filled in")]
        // SAFETY: all of its fields may be zero.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found: Passwd = std::ptr::null_mut();
        match ask(&raw mut entry, &mut buffer, &raw mut found) {
            0 if !found.is_null() => {
                return Ok(Some(Entry {
                    uid: entry.pw_uid,
                    gid: entry.pw_gid,
                    name: text(entry.pw_name),
                    home: text(entry.pw_dir),
                }));
            }
            code => match after(code, buffer.len())? {
                Some(larger) => buffer.resize(larger, 0),
                None => return Ok(None),
            },
        }
    }
}

/// What an answer without an entry means: a larger buffer is to be tried, there is no entry, or it
/// cannot be told. Some databases say the second by an error (getpwnam(3), ERRORS).
fn after(code: libc::c_int, buffer: usize) -> Asked<usize> {
    match code {
        libc::ERANGE if buffer < LARGEST => Ok(Some(buffer * 4)),
        0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => Ok(None),
        code => Err(code),
    }
}

fn group_by_name(name: &str) -> Asked<u32> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    let mut buffer: Vec<libc::c_char> = vec![0; 4096];
    loop {
        #[expect(unsafe_code, reason = "a C structure of numbers and pointers to be filled in")]
        // SAFETY: all of its fields may be zero.
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut found: *mut libc::group = std::ptr::null_mut();
        #[expect(unsafe_code, reason = "only the C library asks all group databases")]
        // SAFETY: the name ends with NUL, and the others are valid for the time of the call, the
        // buffer for the length that is given.
        let result = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                &raw mut entry,
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        match result {
            0 if !found.is_null() => return Ok(Some(entry.gr_gid)),
            code => match after(code, buffer.len())? {
                Some(larger) => buffer.resize(larger, 0),
                None => return Ok(None),
            },
        }
    }
}

/// A text of an entry; empty where it has none.
fn text(pointer: *const libc::c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    #[expect(unsafe_code, reason = "the C library gives pointers")]
    // SAFETY: it points to a text that ends with NUL, in the buffer that the caller still holds.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        let root = account("root", None).unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(root.known.as_ref().unwrap().0, "root");
        assert_eq!(account("0", Some("root")).unwrap(), root);
        let stranger = account("4000000000", Some("4000000001")).unwrap();
        assert_eq!(stranger, Account { uid: 4_000_000_000, gid: 4_000_000_001, known: None });
    }

    #[test]
    fn a_database_that_cannot_be_asked_is_no_answer() {
        let mut asked = Vec::new();
        let busy = |_: Passwd, buffer: &mut [libc::c_char], _: *mut Passwd| {
            asked.push(buffer.len());
            if asked.len() < 3 { libc::ERANGE } else { libc::EMFILE }
        };
        assert_eq!(passwd(busy).err(), Some(libc::EMFILE));
        assert_eq!(asked, [1_024, 4_096, 16_384]);
        assert!(matches!(passwd(|_, _, _| libc::ENOENT), Ok(None)));
        assert_eq!(passwd(|_, _, _| libc::ERANGE).err(), Some(libc::ERANGE), "it never ends");
    }

    #[test]
    fn unknown_ones_are_named_with_what_to_do() {
        let error = |user, group| account(user, group).unwrap_err().to_string();
        assert!(error("no-such-user", None).contains("no user \"no-such-user\""));
        assert!(error("root", Some("no-such")).contains("correct the provider's `group`"));
        assert!(error("4000000000", None).contains("give the provider a `group` as well"));
        assert!(error("a\0b", None).contains("no user"));
    }
}
