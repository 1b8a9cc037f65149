//! The report as a message of protocol buffers, version 3, of which five fields are numbers and
//! three are maps (`xds/data/orca/v3/orca_load_report.proto`).

use super::Sink;

/// Where a field ends, by its wire type.
enum Wire<'a> {
    /// Type 0.
    Varint(u64),
    /// Type 1.
    Fixed64([u8; 8]),
    /// Type 2.
    Bytes(&'a [u8]),
    /// Type 5.
    Fixed32,
}

/// Reads up to the first thing that is not well-formed.
pub(super) fn read(report: &[u8], sink: &mut Sink<'_>) {
    let mut rest = report;
    while let Some((field, wire)) = next(&mut rest) {
        match (field, wire) {
            (1, Wire::Fixed64(value)) => {
                sink.take("", "cpu_utilization", f64::from_le_bytes(value))
            }
            (2, Wire::Fixed64(value)) => {
                sink.take("", "mem_utilization", f64::from_le_bytes(value))
            }
            #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
            (3, Wire::Varint(value)) => sink.take("", "rps", value as f64),
            (4, Wire::Bytes(pair)) => entry("request_cost", pair, sink),
            (5, Wire::Bytes(pair)) => entry("utilization", pair, sink),
            (6, Wire::Fixed64(value)) => sink.take("", "rps_fractional", f64::from_le_bytes(value)),
            (7, Wire::Fixed64(value)) => sink.take("", "eps", f64::from_le_bytes(value)),
            (8, Wire::Bytes(pair)) => entry("named_metrics", pair, sink),
            (9, Wire::Fixed64(value)) => {
                sink.take("", "application_utilization", f64::from_le_bytes(value));
            }
            _ => {}
        }
    }
}

/// An entry of a map: its key is field 1, its value field 2, 0 when it is not there.
fn entry(map: &str, pair: &[u8], sink: &mut Sink<'_>) {
    let (mut rest, mut name, mut number) = (pair, None, 0.0);
    while let Some((field, wire)) = next(&mut rest) {
        match (field, wire) {
            (1, Wire::Bytes(key)) => name = std::str::from_utf8(key).ok(),
            (2, Wire::Fixed64(value)) => number = f64::from_le_bytes(value),
            _ => {}
        }
    }
    if let Some(name) = name {
        sink.take(map, name, number);
    }
}

/// Takes the next field off `rest`; nothing at the end, and where it is not well-formed.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u64, Wire<'a>)> {
    let tag = varint(rest)?;
    let wire = match tag & 7 {
        0 => Wire::Varint(varint(rest)?),
        1 => Wire::Fixed64(take(rest, 8)?.try_into().ok()?),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Wire::Bytes(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| Wire::Fixed32)?,
        _ => return None,
    };
    Some((tag >> 3, wire))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

/// Seven bits per byte, the lowest first; ten bytes at most.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, left) = rest.split_first()?;
        *rest = left;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
