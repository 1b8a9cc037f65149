//! Address ranges in CIDR notation.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// A range of addresses such as `10.0.0.0/8` or `fd00::/8`; an IPv4 range also covers the same
/// addresses mapped into IPv6, as a dual-stack socket reports them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// Network bits, IPv4 mapped to `::ffff:0:0/96`.
    network: u128,
    /// Bits that must match, out of 128.
    length: u32,
}

/// Text that is no address range.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no address range; write it as 10.0.0.0/8, fd00::/8 or a single address")]
pub struct CidrError(String);

impl Cidr {
    /// The addresses whose first `prefix` bits are those of `network`; a prefix longer than the
    /// address means the address alone.
    #[must_use]
    pub fn new(network: IpAddr, prefix: u8) -> Self {
        let offset = if network.is_ipv4() { 96 } else { 0 };
        let length = (u32::from(prefix) + offset).min(128);
        Self { network: bits(network) & mask(length), length }
    }

    /// Whether the address lies in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        (bits(address) ^ self.network) & mask(self.length) == 0
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let invalid = || CidrError(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => {
                (address, Some(length.parse::<u32>().map_err(|_| invalid())?))
            }
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let offset = if address.is_ipv4() { 96 } else { 0 };
        let length = length.unwrap_or(128 - offset) + offset;
        if length > 128 {
            return Err(invalid());
        }
        Ok(Self { network: bits(address) & mask(length), length })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = Ipv6Addr::from_bits(self.network);
        match address.to_ipv4_mapped() {
            Some(v4) if self.length >= 96 => write!(f, "{v4}/{}", self.length - 96),
            _ => write!(f, "{address}/{}", self.length),
        }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn mask(length: u32) -> u128 {
    if length == 0 { 0 } else { u128::MAX << (128 - length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_their_addresses() {
        let cases = [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.9.9.9", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "203.0.113.9", true),
        ];
        for (range, address, inside) in cases {
            let range: Cidr = range.parse().unwrap();
            assert_eq!(range.contains(address.parse().unwrap()), inside, "{range} {address}");
        }
    }

    #[test]
    fn parts_and_text_give_the_same_range() {
        for text in ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8", "::/0", "::ffff:10.0.0.0/104"] {
            let (address, prefix) = text.split_once('/').unwrap();
            let parts = Cidr::new(address.parse().unwrap(), prefix.parse().unwrap());
            assert_eq!(parts, text.parse().unwrap(), "{text}");
        }
    }

    #[test]
    fn text_and_range_agree() {
        for text in ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        for text in ["", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "a/8", "10.0.0.0/"] {
            assert!(text.parse::<Cidr>().is_err(), "{text:?}");
        }
    }
}
