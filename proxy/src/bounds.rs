//! Where a request body ends on the wire.
//!
//! The engine reads as much as it gets and treats what lies beyond the body as an error. Knowing
//! the boundary lets the connection hand over exactly one request at a time, so pipelined requests
//! wait their turn and a client that closes its sending side after the request still gets its
//! answer.

use crate::head::Framing;

/// Longest accepted chunk-size line, extensions included, in bytes.
const MAX_SIZE_LINE: usize = 256;
/// Longest accepted trailer section, in bytes.
const MAX_TRAILERS: usize = 16 * 1024;

/// The chunked coding was violated; the text says how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The rest of one request's body.
#[derive(Debug)]
pub(crate) enum Bounds {
    /// Nothing of the request is left.
    Done,
    /// This many bytes are left.
    Length(u64),
    /// Chunks up to the empty one and its trailers.
    Chunked(Chunks),
    /// Everything up to the end of the connection.
    Open,
}

impl From<Framing> for Bounds {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Empty => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunks::default()),
            Framing::Tunnel => Self::Open,
        }
    }
}

impl Bounds {
    /// How many bytes at the start of `input` belong to the body; they count as read.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when the chunked coding is violated. It is checked strictly, so that a body
    /// that the backend might read differently never passes.
    pub(crate) fn admit(&mut self, input: &[u8]) -> Result<usize, Malformed> {
        match self {
            Self::Done => Ok(0),
            Self::Open => Ok(input.len()),
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= taken as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(taken)
            }
            Self::Chunked(chunks) => {
                let (taken, done) = chunks.admit(input)?;
                if done {
                    *self = Self::Done;
                }
                Ok(taken)
            }
        }
    }

    /// Whether the whole request has been read.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }
}

/// Reads the chunked coding of RFC 9112, section 7.1, byte by byte between chunk data.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    state: ChunkState,
    /// Size of the current chunk while its line is read, then what is left of its data.
    size: u64,
    /// Digits read of the size, or bytes read of the line or trailer section.
    count: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ChunkState {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerEnd,
    LastLf,
}

impl Chunks {
    fn admit(&mut self, input: &[u8]) -> Result<(usize, bool), Malformed> {
        let mut at = 0;
        while at < input.len() {
            if self.state == ChunkState::Data {
                let taken = usize::try_from(self.size).unwrap_or(usize::MAX).min(input.len() - at);
                self.size -= taken as u64;
                at += taken;
                if self.size == 0 {
                    self.state = ChunkState::DataCr;
                }
                continue;
            }
            let done = self.step(input[at])?;
            at += 1;
            if done {
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    /// One byte outside chunk data; true at the end of the body.
    fn step(&mut self, byte: u8) -> Result<bool, Malformed> {
        use ChunkState as S;
        self.state = match (self.state, byte) {
            (S::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if self.count == 15 {
                    return Err(Malformed("chunk size out of range"));
                }
                self.count += 1;
                self.size = self.size * 16 + u64::from((byte as char).to_digit(16).unwrap_or(0));
                S::Size
            }
            (S::Size, b';') if self.count > 0 => S::Extension,
            (S::Size, b'\r') if self.count > 0 => S::SizeEnd,
            (S::Size, _) => return Err(Malformed("malformed chunk size")),
            (S::Extension, b'\r') => S::SizeEnd,
            (S::Extension, b'\n') => return Err(Malformed("lines must end with CR LF")),
            (S::Extension, _) => {
                self.count += 1;
                if self.count > MAX_SIZE_LINE {
                    return Err(Malformed("chunk extension too long"));
                }
                S::Extension
            }
            (S::SizeEnd, b'\n') => {
                self.count = 0;
                if self.size == 0 { S::TrailerStart } else { S::Data }
            }
            (S::DataCr, b'\r') => S::DataLf,
            (S::DataLf, b'\n') => S::Size,
            (S::TrailerStart, b'\r') => S::LastLf,
            (S::TrailerStart | S::Trailer, b'\n') => {
                return Err(Malformed("lines must end with CR LF"));
            }
            (S::Trailer, b'\r') => S::TrailerEnd,
            (S::TrailerStart | S::Trailer, _) => {
                self.count += 1;
                if self.count > MAX_TRAILERS {
                    return Err(Malformed("trailers too large"));
                }
                S::Trailer
            }
            (S::TrailerEnd, b'\n') => S::TrailerStart,
            (S::LastLf, b'\n') => return Ok(true),
            (S::SizeEnd | S::DataCr | S::DataLf | S::TrailerEnd | S::LastLf | S::Data, _) => {
                return Err(Malformed("malformed chunk"));
            }
        };
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunked() -> Bounds {
        Bounds::from(Framing::Chunked)
    }

    #[test]
    fn a_chunked_body_ends_after_its_trailers() {
        let body = b"5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\nGET / HTTP/1.1\r\n";
        let mut bounds = chunked();
        assert_eq!(bounds.admit(body), Ok(body.len() - 16));
        assert!(bounds.is_done());
        assert_eq!(bounds.admit(b"GET"), Ok(0));
    }

    #[test]
    fn violations_are_refused() {
        for body in [
            "\r\n",
            "g\r\n",
            "5\nhello",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "0\r\n\n",
            "0\r\nT: 1\n\r\n",
            "0x5\r\nhello\r\n",
            " 5\r\nhello\r\n",
            "ffffffffffffffff\r\n",
            "-1\r\n",
            "5 \r\nhello\r\n",
        ] {
            assert!(chunked().admit(body.as_bytes()).is_err(), "{body:?}");
        }
        let long = format!("5;{}\r\n", "a".repeat(MAX_SIZE_LINE));
        assert!(chunked().admit(long.as_bytes()).is_err());
    }

    #[test]
    fn a_length_is_counted_down() {
        let mut bounds = Bounds::from(Framing::Length(5));
        assert_eq!(bounds.admit(b"hel"), Ok(3));
        assert!(!bounds.is_done());
        assert_eq!(bounds.admit(b"lo and more"), Ok(2));
        assert!(bounds.is_done());
    }

    proptest! {
        #[test]
        fn splitting_the_input_moves_no_boundary(
            chunks in proptest::collection::vec(1_usize..40, 0..5),
            step in 1_usize..20,
        ) {
            let mut body = Vec::new();
            for size in chunks {
                body.extend_from_slice(format!("{size:x}\r\n{}\r\n", "x".repeat(size)).as_bytes());
            }
            body.extend_from_slice(b"0\r\n\r\n");
            let end = body.len();
            body.extend_from_slice(b"next request");
            let (mut bounds, mut at) = (chunked(), 0);
            while !bounds.is_done() {
                let piece = &body[at..(at + step).min(body.len())];
                at += bounds.admit(piece).unwrap();
            }
            prop_assert_eq!(at, end);
        }
    }
}
