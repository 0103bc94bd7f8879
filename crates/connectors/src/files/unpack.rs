//! Compressed files: which are, and their content, in bounded memory and without surprises.

use std::fmt;
use std::io::{self, BufReader, Read};
use std::path::Path;

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use retrofill_core::error::{Error, Result};

use super::settings::Compression;

/// How many bytes one compressed byte may become, above the first [`FREE_BYTES`]. A file that
/// means harm makes a thousand of one; sorted readings may well make two hundred.
const MOST_TIMES: u64 = 100;
/// Bytes that any file may unpack to.
const FREE_BYTES: u64 = 512 << 20;
/// Memory that a file may ask for to be unpacked: more than `xz -9` and `zstd --ultra -22` need.
const MOST_MEMORY: u64 = 160 << 20;
/// Bytes that tell one format from the other.
const MAGIC: u64 = 10;

/// A way to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Packing {
    const ALL: [Packing; 4] = [Packing::Gzip, Packing::Zstd, Packing::Bzip2, Packing::Xz];

    fn name(self) -> &'static str {
        match self {
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
            Packing::Bzip2 => "bzip2",
            Packing::Xz => "xz",
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Packing::Gzip => "gz",
            Packing::Zstd => "zst",
            Packing::Bzip2 => "bz2",
            Packing::Xz => "xz",
        }
    }

    /// How a file of this name is to be read; none where it is plain.
    pub(super) fn of(compression: Compression, path: &str) -> Option<Packing> {
        match compression {
            Compression::None => None,
            Compression::Gzip => Some(Packing::Gzip),
            Compression::Zstd => Some(Packing::Zstd),
            Compression::Bzip2 => Some(Packing::Bzip2),
            Compression::Xz => Some(Packing::Xz),
            Compression::Auto => {
                let ending = Path::new(path).extension()?;
                Packing::ALL.into_iter().find(|p| ending.eq_ignore_ascii_case(p.ending()))
            }
        }
    }

    fn magic(first: &[u8]) -> Option<Packing> {
        match first {
            [0x1f, 0x8b, ..] => Some(Packing::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Some(Packing::Zstd)
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Packing::Xz),
            // Behind the level stands the first block's mark, or the end's.
            [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..]
                if rest.starts_with(b"1AY&SY") || rest.starts_with(b"\x17\x72\x45\x38\x50\x90") =>
            {
                Some(Packing::Bzip2)
            }
            _ => None,
        }
    }
}

/// Formats that are no text, with the connector that reads them, if there is one.
fn foreign(first: &[u8]) -> Option<(&'static str, Option<&'static str>)> {
    Some(match first {
        [b'P', b'K', 3, 4, ..] => ("a ZIP archive or a spreadsheet", None),
        [b'P', b'A', b'R', b'1', ..] => ("a Parquet file", Some("parquet")),
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] => ("an Arrow IPC file", Some("arrow")),
        [b'O', b'b', b'j', 1, ..] => ("an Avro file", Some("avro")),
        [b'S', b'Q', b'L', b'i', b't', b'e', b' ', b'f', ..] => {
            ("an SQLite database", Some("sqlite"))
        }
        [b'7', b'z', 0xbc, 0xaf, ..] => ("a 7z archive", None),
        [0x04, 0x22, 0x4d, 0x18, ..] => ("LZ4 data", None),
        _ => return None,
    })
}

/// Checks that a file's first bytes say what its name (or the setting) says.
pub(super) fn check_magic(
    compression: Compression,
    path: &str,
    file: impl Read,
) -> io::Result<Result<()>> {
    let mut first = Vec::new();
    file.take(MAGIC).read_to_end(&mut first)?;
    let (named, found) = (Packing::of(compression, path), Packing::magic(&first));
    if named == found && (named.is_some() || foreign(&first).is_none()) {
        return Ok(Ok(()));
    }
    let auto = compression == Compression::Auto;
    let other = foreign(&first);
    let what = match (named, found.map(Packing::name).or(other.map(|(name, _)| name))) {
        (Some(named), found) => {
            let ending =
                if auto { format!("ends in `.{}` but ", named.ending()) } else { String::new() };
            let found = found.map_or(String::new(), |f| format!(": it is {f}"));
            format!("{ending}is not {}{found}", named.name())
        }
        (None, Some(name)) if auto && found.is_some() => {
            format!("is {name} but does not end in `.{}`", found.map_or("", Packing::ending))
        }
        (None, name) => format!("is {}", name.unwrap_or("no text")),
    };
    let hint = match found {
        Some(packing) if auto => format!("set `compression: {}`", packing.name()),
        Some(packing) => format!("leave `compression` out, or set it to `{}`", packing.name()),
        None if let Some((_, reader)) = other => match reader {
            Some(key) => {
                format!(
                    "read it as `{{ {key}: {{ path: ... }} }}`; types and columns are known then"
                )
            }
            None => "CSV is read plain, or packed with gzip, zstd, bzip2 or xz".into(),
        },
        None if auto => "set `compression: none`".into(),
        None => "leave `compression` out, or set it to `none`".into(),
    };
    Ok(Err(Error::config(format!("`{path}` {what}")).hint(hint)))
}

/// Why a file cannot be unpacked.
#[derive(Debug)]
pub(super) struct Damage {
    packing: Packing,
    fault: Fault,
}

#[derive(Debug)]
enum Fault {
    /// The end is missing.
    Short,
    /// The bytes are not what they must be.
    Broken(String),
    /// It becomes far larger than it is.
    Bomb,
    /// It asks for much memory.
    Memory,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.packing.name();
        match &self.fault {
            Fault::Short => write!(f, "breaks off: the end of its {name} data is missing"),
            Fault::Broken(why) => {
                write!(f, "is damaged: its {name} data cannot be unpacked: {why}")
            }
            Fault::Bomb => write!(
                f,
                "unpacks to more than {} MiB and more than {MOST_TIMES} times its size",
                FREE_BYTES >> 20
            ),
            Fault::Memory => {
                write!(f, "needs more than {} MiB of memory to unpack", MOST_MEMORY >> 20)
            }
        }
    }
}

impl std::error::Error for Damage {}

impl Damage {
    /// The damage that an error of an unpacked file tells of, if it does.
    pub(super) fn of(e: &io::Error) -> Option<&Damage> {
        e.get_ref()?.downcast_ref()
    }

    /// What can be done about it.
    pub(super) fn hint(&self) -> String {
        match self.fault {
            Fault::Short => "was it copied or written only in part? nothing of it is loaded".into(),
            Fault::Broken(_) => "copy or pack it again; nothing of it is loaded".into(),
            Fault::Bomb => "if you trust it, unpack it yourself and load the plain file".into(),
            Fault::Memory => {
                "unpack it yourself, or pack it again with a smaller window (`xz -9` will do)"
                    .into()
            }
        }
    }
}

/// The content of a compressed file.
pub(super) struct Unpacked<R: Read> {
    decoder: Decoder<R>,
    packing: Packing,
    /// Bytes of the file, and bytes given.
    size: u64,
    given: u64,
}

enum Decoder<R: Read> {
    Gzip(MultiGzDecoder<BufReader<R>>),
    Zstd(zstd::Decoder<'static, BufReader<R>>),
    Bzip2(MultiBzDecoder<BufReader<R>>),
    Xz(XzDecoder<BufReader<R>>),
}

impl<R: Read> Unpacked<R> {
    /// `size` is that of the file.
    pub(super) fn new(file: R, packing: Packing, size: u64) -> io::Result<Self> {
        let file = BufReader::with_capacity(64 << 10, file);
        let decoder = match packing {
            Packing::Gzip => Decoder::Gzip(MultiGzDecoder::new(file)),
            Packing::Zstd => Decoder::Zstd(zstd::Decoder::with_buffer(file)?),
            Packing::Bzip2 => Decoder::Bzip2(MultiBzDecoder::new(file)),
            Packing::Xz => {
                let stream = Stream::new_stream_decoder(MOST_MEMORY, CONCATENATED)?;
                Decoder::Xz(XzDecoder::new_stream(file, stream))
            }
        };
        Ok(Unpacked { decoder, packing, size, given: 0 })
    }

    fn fault(&self, fault: Fault) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, Damage { packing: self.packing, fault })
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.read(to),
            Decoder::Zstd(decoder) => decoder.read(to),
            Decoder::Bzip2(decoder) => decoder.read(to),
            Decoder::Xz(decoder) => decoder.read(to),
        };
        let n = match read {
            Ok(n) => n,
            // The disk's errors have a number; the others are the decoder's.
            Err(e) if e.raw_os_error().is_some() || e.kind() == io::ErrorKind::Interrupted => {
                return Err(e);
            }
            Err(e) => return Err(self.fault(fault_of(&e))),
        };
        self.given += n as u64;
        if self.given > (self.size.saturating_mul(MOST_TIMES)).max(FREE_BYTES) {
            return Err(self.fault(Fault::Bomb));
        }
        Ok(n)
    }
}

fn fault_of(e: &io::Error) -> Fault {
    let inner = e.get_ref().and_then(|e| e.downcast_ref::<liblzma::stream::Error>());
    let text = e.to_string();
    if matches!(inner, Some(liblzma::stream::Error::MemLimit)) || text.contains("too much memory") {
        return Fault::Memory;
    }
    match e.kind() {
        io::ErrorKind::UnexpectedEof => Fault::Short,
        _ => Fault::Broken(text),
    }
}
