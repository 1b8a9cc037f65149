//! A layer over a disk image: what a machine writes goes there, and the image stays as it is.
//!
//! The layout is that of version 3 in QEMU's `docs/interop/qcow2.txt`: a header, a table and a block
//! of reference counts, and an empty first-level table.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::place;
use crate::error::{Cause, ProviderError};

const MAGIC: u32 = 0x5146_49fb;
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Bytes of the disk that an entry of the first-level table stands for: a table of one cluster.
const PER_ENTRY: u64 = CLUSTER * (CLUSTER / 8);
const HEADER: u32 = 104;
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// The longest name of a backing file.
const LONGEST: usize = 1023;
/// As QEMU bounds it: the first-level table has at most 32 MiB.
const LARGEST: u64 = (32 << 20) / 8 * PER_ENTRY;

/// What an image is.
struct Image {
    format: &'static [u8],
    bytes: u64,
}

/// Writes an empty layer over `image` to `layer`, which is not there yet.
pub(super) fn overlay(image: &Path, layer: &Path) -> Result<(), ProviderError> {
    let unusable = |came_back: String| ProviderError::Refused {
        cause: Cause::Absent,
        asked: format!("for the image {}", image.display()),
        came_back,
    };
    let file = place::opened("image", image)?;
    let found = inspect(file).map_err(|error| unusable(error.to_string()))?;
    let base = image.canonicalize().map_err(|error| unusable(error.to_string()))?;
    let name = base.as_os_str().as_bytes();
    if name.len() > LONGEST {
        return Err(unusable(format!("its path has more than {LONGEST} bytes")));
    }
    if found.bytes == 0 || found.bytes > LARGEST {
        return Err(unusable(format!("a disk of {} bytes cannot be layered over", found.bytes)));
    }
    let bytes = layout(&found, name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let written = options.open(layer).and_then(|mut file| file.write_all(&bytes));
    written.map_err(ProviderError::io("write", layer.display()))
}

fn inspect(mut file: File) -> std::io::Result<Image> {
    let mut head = [0; 32];
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let read = file.read(&mut head)?;
    let size: [u8; 8] = head[24..32].try_into().unwrap_or_default();
    if read == head.len() && head.starts_with(&MAGIC.to_be_bytes()) {
        return Ok(Image { format: b"qcow2", bytes: u64::from_be_bytes(size) });
    }
    // Disks are made of sectors.
    Ok(Image { format: b"raw", bytes: length.next_multiple_of(512) })
}

fn layout(image: &Image, backing: &[u8]) -> Vec<u8> {
    let entries = image.bytes.div_ceil(PER_ENTRY);
    let first_level = (entries * 8).div_ceil(CLUSTER);
    let used = 3 + first_level;
    let size_of = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let format_end = HEADER + 8 + size_of(image.format.len()).next_multiple_of(8);
    let mut head = Vec::new();
    let mut put = |bytes: &[u8]| head.extend_from_slice(bytes);
    put(&MAGIC.to_be_bytes());
    put(&3_u32.to_be_bytes());
    // Behind the extensions, which end with eight zeroes.
    put(&u64::from(format_end + 8).to_be_bytes());
    put(&size_of(backing.len()).to_be_bytes());
    put(&CLUSTER_BITS.to_be_bytes());
    put(&image.bytes.to_be_bytes());
    put(&0_u32.to_be_bytes());
    put(&u32::try_from(entries).unwrap_or(u32::MAX).to_be_bytes());
    put(&(3 * CLUSTER).to_be_bytes());
    put(&CLUSTER.to_be_bytes());
    put(&1_u32.to_be_bytes());
    // No snapshots within, no features.
    put(&[0; 12 + 24]);
    // Reference counts of 1 << 4 bits.
    put(&4_u32.to_be_bytes());
    put(&HEADER.to_be_bytes());
    put(&BACKING_FORMAT.to_be_bytes());
    put(&size_of(image.format.len()).to_be_bytes());
    put(image.format);
    head.resize(usize::try_from(format_end + 8).unwrap_or(0), 0);
    head.extend_from_slice(backing);

    let at = |cluster: u64| usize::try_from(cluster * CLUSTER).unwrap_or(usize::MAX);
    let mut bytes = vec![0; at(used)];
    bytes[..head.len()].copy_from_slice(&head);
    // The table of reference counts has one block, which has a count of two bytes for each cluster.
    bytes[at(1)..at(1) + 8].copy_from_slice(&(2 * CLUSTER).to_be_bytes());
    for cluster in 0..usize::try_from(used).unwrap_or(0) {
        let count = at(2) + 2 * cluster;
        bytes[count..count + 2].copy_from_slice(&1_u16.to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_layer_has_the_size_of_its_image_and_names_it_in_full() {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("raw");
        File::create(&raw).unwrap().set_len((3 << 30) + 1).unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        overlay(&raw, &one).unwrap();
        // A layer is an image like any other.
        overlay(&one, &two).unwrap();
        for (layer, base) in [(&one, &raw), (&two, &one)] {
            let bytes = std::fs::read(layer).unwrap();
            assert_eq!(bytes.len() as u64, 4 * CLUSTER);
            assert_eq!(bytes[24..32], ((3_u64 << 30) + 512).to_be_bytes());
            let name = base.canonicalize().unwrap();
            let name = name.as_os_str().as_bytes();
            assert!(bytes.windows(name.len()).any(|found| found == name));
        }
        assert!(overlay(&raw, &one).is_err(), "it is there already");
        // Where QEMU's own tool is there, it says the same.
        if let Ok(checked) = Command::new("qemu-img").arg("check").arg(&two).output() {
            assert!(checked.status.success(), "{checked:?}");
        }
    }

    #[test]
    fn an_image_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty");
        File::create(&empty).unwrap();
        let error = overlay(&empty, &dir.path().join("x")).unwrap_err().to_string();
        assert!(error.contains("a disk of 0 bytes"), "{error}");
    }
}
