//! How files are packed and encoded.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use retrofill_core::error::Result;
use retrofill_core::survey::FileStamp;

use super::super::open::{Content, check_magic, is_marked, unreadable};
use super::super::origin::Origin;
use super::super::settings::{Compression, CsvSettings, Encoding};

/// Bytes that are looked at in one go.
const PIECE: usize = 1 << 20;
/// Bytes of a file that tell UTF-16 without a mark.
const START: usize = 64 << 10;
/// Bytes per row, at most, that are looked at where only some rows are.
const PER_ROW: u64 = 4 << 10;

/// Finds the files, and how their bytes become text.
pub(super) fn guess(
    origin: &Origin,
    settings: &mut CsvSettings,
    most: Option<u64>,
) -> Result<Vec<FileStamp>> {
    let files = origin.find(&settings.path)?;
    settings.compression = packing(origin, settings, &files)?;
    let most = most.map_or(u64::MAX, |rows| rows.saturating_mul(PER_ROW));
    let mut seen = Bytes::default();
    for file in &files {
        look(origin, settings, file, most, &mut seen)?;
    }
    settings.encoding = seen.encoding();
    Ok(files)
}

/// By their names where these tell the truth, else the one way in which all are packed.
fn packing(origin: &Origin, settings: &CsvSettings, files: &[FileStamp]) -> Result<Compression> {
    let check = |compression| {
        let settings = CsvSettings { compression, ..settings.clone() };
        files.iter().try_for_each(|file| check_magic(&settings, &file.path, &origin.open(file)?))
    };
    let by_name = check(Compression::Auto);
    let others = [
        Compression::Gzip,
        Compression::Zstd,
        Compression::Bzip2,
        Compression::Xz,
        Compression::None,
    ];
    match by_name {
        Ok(()) => Ok(Compression::Auto),
        Err(error) => others.into_iter().find(|c| check(*c).is_ok()).ok_or(error),
    }
}

/// What the bytes of all files have in common.
#[derive(Debug, Default)]
struct Bytes {
    /// Not UTF-8.
    other: bool,
    /// Bytes that are letters and signs in Windows-1252, and nothing printable in Latin-1.
    windows: bool,
    /// Bytes that Windows-1252 does not have.
    undefined: bool,
    /// Zero bytes at the first and the second place of two.
    zeros: [usize; 2],
    /// Pairs of bytes that were looked at for them.
    pairs: usize,
}

impl Bytes {
    fn encoding(&self) -> Encoding {
        let [first, second] = self.zeros;
        // Text in Latin letters has a zero in nearly every pair.
        if first.max(second) * 10 > self.pairs * 4 {
            return if second > first { Encoding::Utf16Le } else { Encoding::Utf16Be };
        }
        match self {
            Bytes { other: false, .. } => Encoding::Utf8,
            Bytes { windows: true, undefined: false, .. } => Encoding::Windows1252,
            _ => Encoding::Latin1,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                0x81 | 0x8d | 0x8f | 0x90 | 0x9d => self.undefined = true,
                0x80..=0x9f => self.windows = true,
                _ => {}
            }
        }
    }
}

fn look(
    origin: &Origin,
    settings: &CsvSettings,
    file: &FileStamp,
    most: u64,
    seen: &mut Bytes,
) -> Result<()> {
    let path = &file.path;
    let plain = settings.compression == Compression::None
        || settings.compression == Compression::Auto && !is_packed(path);
    if plain && is_marked(&origin.open(file)?) == Some(true) {
        // Its mark tells.
        return Ok(());
    }
    let (mut content, encoding) = Content::open(origin, settings, file, Arc::default())?;
    if encoding != Encoding::Utf8 {
        return Ok(());
    }
    let (mut buffer, mut kept, mut at) = (vec![0; PIECE], Vec::new(), 0_u64);
    while at < most {
        let n = content.read(&mut buffer).map_err(|e| unreadable(path, e))?;
        if n == 0 {
            // Half a character at the end is none.
            seen.other |= !kept.is_empty();
            seen.take(&kept);
            return Ok(());
        }
        let piece = &buffer[..n];
        if at == 0 {
            let start = &piece[..n.min(START)];
            for pair in start.chunks_exact(2) {
                seen.zeros[0] += usize::from(pair[0] == 0);
                seen.zeros[1] += usize::from(pair[1] == 0);
                seen.pairs += 1;
            }
        }
        at += n as u64;
        kept.extend_from_slice(piece);
        match std::str::from_utf8(&kept) {
            Ok(_) => kept.clear(),
            Err(e) if e.error_len().is_none() => drop(kept.drain(..e.valid_up_to())),
            Err(_) => {
                seen.other = true;
                seen.take(&kept);
                kept.clear();
            }
        }
    }
    Ok(())
}

fn is_packed(path: &str) -> bool {
    let endings = ["gz", "zst", "bz2", "xz"];
    let ending = Path::new(path).extension();
    ending.is_some_and(|e| endings.iter().any(|known| e.eq_ignore_ascii_case(known)))
}
