//! Files that are not UTF-8, read as if they were.
//!
//! What cannot be decoded becomes a byte that no UTF-8 holds: the line it stands in is refused
//! like any other that is not UTF-8, and the next one is read.

use std::io::{self, Read};

use encoding_rs::{Decoder, DecoderResult, UTF_16BE, UTF_16LE, WINDOWS_1252};
use retrofill_core::error::{Error, Result};

use super::settings::Encoding;

/// Bytes that are decoded at a time.
const PIECE: usize = 64 << 10;
/// Stands for what cannot be decoded.
const BAD: u8 = 0xff;

/// The encoding that the mark at a file's begin tells.
pub(super) fn marked(first: &[u8]) -> Option<Encoding> {
    match first {
        [0xef, 0xbb, 0xbf, ..] => Some(Encoding::Utf8),
        [0xff, 0xfe, ..] => Some(Encoding::Utf16Le),
        [0xfe, 0xff, ..] => Some(Encoding::Utf16Be),
        _ => None,
    }
}

/// How a file is encoded that begins with these bytes.
pub(super) fn actual(setting: Encoding, first: &[u8], path: &str) -> Result<Encoding> {
    match (setting, marked(first)) {
        (Encoding::Utf8, None) => Ok(Encoding::Utf8),
        (Encoding::Utf8, Some(mark)) => Ok(mark),
        (Encoding::Utf16, None) => {
            Err(Error::config(format!("`{path}` does not tell the byte order of its UTF-16"))
                .hint("set `encoding: utf-16le` (what Windows writes) or `utf-16be`"))
        }
        (Encoding::Utf16, Some(mark @ (Encoding::Utf16Le | Encoding::Utf16Be))) => Ok(mark),
        (setting, None) => Ok(setting),
        (setting, Some(mark)) if setting == mark => Ok(setting),
        (setting, Some(mark)) => {
            let (mark, setting) = (mark.name(), setting.name());
            let what = format!("`{path}` begins with the mark of {mark}, but is to be {setting}");
            Err(Error::config(what).hint("leave `encoding` out: marked files are recognised"))
        }
    }
}

/// Why a line is refused that is not what it is read as.
pub(super) fn reason(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Utf16 | Encoding::Utf16Le | Encoding::Utf16Be => "not UTF-16",
        _ => "not UTF-8; if the file is Latin-1 or Windows-1252, set `encoding`",
    }
}

/// A file's text as UTF-8.
pub(super) struct Decoded<R> {
    input: R,
    how: How,
    raw: Vec<u8>,
    /// The stretch of `raw` that is not decoded yet.
    left: (usize, usize),
    text: Vec<u8>,
    /// The stretch of `text` that is decoded and not given yet.
    ready: (usize, usize),
    /// The input has nothing more; then the decoder too.
    ended: bool,
    done: bool,
}

enum How {
    Latin1,
    Table(Decoder),
}

impl<R: Read> Decoded<R> {
    /// `encoding` is none that only a mark decides.
    pub(super) fn new(input: R, encoding: Encoding) -> Self {
        let how = match encoding {
            Encoding::Latin1 => How::Latin1,
            Encoding::Windows1252 => How::Table(WINDOWS_1252.new_decoder_without_bom_handling()),
            Encoding::Utf16Be => How::Table(UTF_16BE.new_decoder_without_bom_handling()),
            _ => How::Table(UTF_16LE.new_decoder_without_bom_handling()),
        };
        Decoded {
            input,
            how,
            raw: vec![0; PIECE],
            left: (0, 0),
            // No encoding here needs more than three bytes of UTF-8 for one of its own.
            text: vec![0; 3 * PIECE + 16],
            ready: (0, 0),
            ended: false,
            done: false,
        }
    }

    /// Decodes the next piece.
    fn fill(&mut self) -> io::Result<()> {
        if self.left.0 == self.left.1 {
            let n = self.input.read(&mut self.raw)?;
            self.left = (0, n);
            self.ended = n == 0;
        }
        let raw = &self.raw[self.left.0..self.left.1];
        let (read, written) = match &mut self.how {
            How::Latin1 => {
                self.done = self.ended;
                (raw.len(), encoding_rs::mem::convert_latin1_to_utf8(raw, &mut self.text))
            }
            How::Table(decoder) => {
                let room = self.text.len() - 1;
                let text = &mut self.text[..room];
                let (result, read, written) =
                    decoder.decode_to_utf8_without_replacement(raw, text, self.ended);
                self.done = self.ended && result == DecoderResult::InputEmpty;
                let bad = matches!(result, DecoderResult::Malformed(..));
                self.text[written] = BAD;
                (read, written + usize::from(bad))
            }
        };
        self.left.0 += read;
        self.ready = (0, written);
        Ok(())
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.ready.0 == self.ready.1 {
            if self.done {
                return Ok(0);
            }
            self.fill()?;
        }
        let ready = &self.text[self.ready.0..self.ready.1];
        let n = to.len().min(ready.len());
        to[..n].copy_from_slice(&ready[..n]);
        self.ready.0 += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a byte at a time, to meet every border.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let n = self.0.len().min(to.len()).min(1);
            self.0.take(n as u64).read(to).inspect(|n| self.0 = &self.0[*n..])
        }
    }

    fn decode(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        Decoded::new(bytes, encoding).read_to_end(&mut whole).unwrap();
        let mut slow = Vec::new();
        Decoded::new(Slow(bytes), encoding).read_to_end(&mut slow).unwrap();
        assert_eq!(whole, slow);
        whole
    }

    fn utf16(text: &str, low_first: bool) -> Vec<u8> {
        let bytes = |n: u16| if low_first { n.to_le_bytes() } else { n.to_be_bytes() };
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn text_arrives_as_utf_8() {
        let text = "\u{feff}größe,\u{20ac},\u{1f600}\n".repeat(20_000);
        assert_eq!(decode(Encoding::Utf16Le, &utf16(&text, true)), text.as_bytes());
        assert_eq!(decode(Encoding::Utf16Be, &utf16(&text, false)), text.as_bytes());
        let latin: Vec<u8> = (0..=255).cycle().take(200_000).collect();
        let want: String = latin.iter().map(|b| char::from(*b)).collect();
        assert_eq!(decode(Encoding::Latin1, &latin), want.as_bytes());
        assert_eq!(decode(Encoding::Windows1252, b"\x80 \xe9"), "\u{20ac} é".as_bytes());
        assert!(decode(Encoding::Utf16Le, b"").is_empty());
    }

    #[test]
    fn what_cannot_be_decoded_spoils_its_line_alone() {
        let mut bytes = utf16("a\n", true);
        bytes.extend([0x00, 0xd8]);
        bytes.extend(utf16("\nb\n", true));
        bytes.push(b'c');
        let lines: Vec<_> = decode(Encoding::Utf16Le, &bytes);
        assert_eq!(lines, b"a\n\xff\nb\n\xff");
    }

    #[test]
    fn a_mark_is_believed_or_contradicted() {
        let (le, be, eight) = (&b"\xff\xfea\0"[..], &b"\xfe\xff\0a"[..], &b"\xef\xbb\xbfa"[..]);
        for (setting, first, want) in [
            (Encoding::Utf8, le, Some(Encoding::Utf16Le)),
            (Encoding::Utf8, be, Some(Encoding::Utf16Be)),
            (Encoding::Utf8, eight, Some(Encoding::Utf8)),
            (Encoding::Utf8, b"t", Some(Encoding::Utf8)),
            (Encoding::Utf16, be, Some(Encoding::Utf16Be)),
            (Encoding::Utf16, b"t\0", None),
            (Encoding::Utf16, eight, None),
            (Encoding::Utf16Le, b"t\0", Some(Encoding::Utf16Le)),
            (Encoding::Utf16Le, be, None),
            (Encoding::Latin1, b"\xe9", Some(Encoding::Latin1)),
            (Encoding::Latin1, eight, None),
        ] {
            assert_eq!(actual(setting, first, "a.csv").ok(), want, "{setting:?} {first:?}");
        }
    }
}
