//! gzip as `gzip` itself reads it: members one behind the other, and zeros behind the last one,
//! with which tapes and block devices fill their last block.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// The content of all members.
pub(super) enum Members<R> {
    /// Within one.
    In(Box<GzDecoder<R>>),
    /// Behind one, and perhaps some zeros.
    Behind {
        rest: R,
        padded: bool,
    },
    Ended,
}

impl<R: BufRead> Members<R> {
    pub(super) fn new(file: R) -> Self {
        Members::In(Box::new(GzDecoder::new(file)))
    }

    /// Whether what stands here is another member; none where nothing does.
    fn begins(rest: &mut R, padded: &mut bool) -> io::Result<Option<bool>> {
        loop {
            let held = rest.fill_buf()?;
            if held.is_empty() {
                return Ok(None);
            }
            match held.iter().take_while(|byte| **byte == 0).count() {
                0 => return Ok(Some(!*padded)),
                zeros => {
                    *padded = true;
                    rest.consume(zeros);
                }
            }
        }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            match self {
                Members::In(member) => {
                    let read = member.read(to)?;
                    if read > 0 || to.is_empty() {
                        return Ok(read);
                    }
                }
                Members::Behind { rest, padded } => match Self::begins(rest, padded)? {
                    Some(true) => {}
                    Some(false) => {
                        let what = "something stands behind the zeros at its end";
                        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                    }
                    None => *self = Members::Ended,
                },
                Members::Ended => return Ok(0),
            }
            *self = match std::mem::replace(self, Members::Ended) {
                Members::In(member) => Members::Behind { rest: member.into_inner(), padded: false },
                Members::Behind { rest, .. } => Members::new(rest),
                Members::Ended => Members::Ended,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write as _};

    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn content(parts: &[&[u8]]) -> io::Result<Vec<u8>> {
        let file = parts.concat();
        // A buffer whose ends fall everywhere.
        let mut members = Members::new(BufReader::with_capacity(3, file.as_slice()));
        let mut content = Vec::new();
        members.read_to_end(&mut content).map(|_| content)
    }

    #[test]
    fn zeros_at_the_end_are_no_data() {
        let (a, b, zeros) = (gzip(b"one\n"), gzip(b"two\n"), [0; 512]);
        assert_eq!(content(&[&a]).unwrap(), b"one\n");
        assert_eq!(content(&[&a, &b]).unwrap(), b"one\ntwo\n");
        assert_eq!(content(&[&a, &b, &zeros]).unwrap(), b"one\ntwo\n");
        assert_eq!(content(&[&gzip(b""), &b]).unwrap(), b"two\n");
    }

    #[test]
    fn anything_else_behind_a_member_is_an_error() {
        let (a, b) = (gzip(b"one\n"), gzip(b"two\n"));
        for parts in [
            [&a[..], b"x"],
            [&a, &b[..5]],
            [&a, &b[..b.len() - 1]],
            [&a, b"\0\0x"],
            [&a, &[&[0][..], &b].concat()],
        ] {
            assert!(content(&parts).is_err(), "{parts:?}");
        }
    }
}
