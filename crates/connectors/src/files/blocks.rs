//! Reads surveyed blocks again, and trusts none whose hash is another.

use std::io::{self, Read};
use std::sync::Arc;

use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::survey::{Block, FileStamp, Survey};

use super::Shared;
use super::header::{Header, Order};
use super::open::{Content, read_up_to, stale, unreadable};
use super::origin::{OpenFile, is_refusal};
use super::unpack::Damage;

/// One surveyed file, open.
#[derive(Debug)]
pub(super) struct Surveyed<'a> {
    file: &'a FileStamp,
    header: Header,
    pub(super) order: Order,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Plain(OpenFile),
    /// Only ever forward.
    Stream {
        content: Content,
        at: u64,
        /// The file as it lies there.
        packed: OpenFile,
    },
}

impl Shared {
    /// Opens a file of the survey, by index. `Stale` where it is gone or has other columns.
    pub(super) fn surveyed<'a>(&self, survey: &'a Survey, file: u32) -> Result<Surveyed<'a>> {
        let file = survey
            .files
            .get(file as usize)
            .ok_or_else(|| Error::bug(format!("the survey has no file {file}")))?;
        let path = &file.path;
        let changed = |e: Error| match e.kind() {
            Kind::Config if !is_refusal(&e) => stale(path, "cannot be read as planned").because(e),
            _ => e,
        };
        let open = self.origin.open(file)?;
        let (header, _) = self.chunks_of(&open, file, Arc::default()).map_err(changed)?;
        let order = self.order(survey, &header, path, "the plan").map_err(changed)?;
        let content = Content::of(&open, &self.settings, file, Arc::default());
        let content = content.map_err(changed)?.0;
        let bytes = match content {
            Content::Plain(_) => Bytes::Plain(open),
            Content::Stream(_) => Bytes::Stream { content, at: 0, packed: open },
        };
        Ok(Surveyed { file, header, order, bytes })
    }

    /// Whether any of these blocks can only be reached by reading what is before it.
    pub(super) fn any_stream<'a>(
        &self,
        survey: &Survey,
        blocks: impl IntoIterator<Item = &'a Block>,
    ) -> bool {
        let mut last = None;
        blocks.into_iter().any(|b| {
            let file = survey.files.get(b.file as usize);
            last.replace(b.file) != Some(b.file) && file.is_some_and(|f| self.is_stream(f))
        })
    }
}

impl Surveyed<'_> {
    /// The bytes of blocks that follow each other without a gap, each with its hash checked.
    pub(super) fn read(&mut self, blocks: &[Block]) -> Result<Vec<u8>> {
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
            return Ok(Vec::new());
        };
        let length = (last.offset + last.length - first.offset) as usize;
        let path = &self.file.path;
        let bytes = self.bytes.read(first.offset, length).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => stale(path, "is shorter than planned"),
            _ if Damage::of(&e).is_some() => stale(path, "cannot be unpacked any more").because(e),
            _ => unreadable(path, e),
        })?;
        for block in blocks {
            let at = (block.offset - first.offset) as usize;
            let content = &bytes[at..at + block.length as usize];
            if self.header.hash(content) != block.hash {
                let end = block.offset + block.length;
                let what = format!("changed between the bytes {} and {end}", block.offset);
                return Err(stale(path, &what));
            }
        }
        self.check_end(last, &bytes)?;
        Ok(bytes)
    }

    /// A last line without a newline may since have been continued.
    fn check_end(&self, last: &Block, bytes: &[u8]) -> Result<()> {
        let end = last.offset + last.length;
        if bytes.last() == Some(&b'\n') {
            return Ok(());
        }
        let mut next = [0];
        let n = match &self.bytes {
            Bytes::Plain(_) if end != self.file.size => Ok(0),
            Bytes::Plain(file) => file.read_near(&mut next, end),
            // What stands behind is not known without decoding it.
            Bytes::Stream { packed, .. } => {
                packed.length().map(|length| usize::from(length > self.file.size))
            }
        };
        let n = n.map_err(|e| unreadable(&self.file.path, e))?;
        if n == 0 || matches!(next[0], b'\n' | b'\r') {
            return Ok(());
        }
        Err(stale(&self.file.path, "goes on in the line that was its last"))
    }
}

impl Bytes {
    fn read(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        match self {
            Bytes::Plain(file) => {
                // A damaged survey must not make us ask for memory that no file fills.
                if file.length()? < offset + length as u64 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let mut bytes = vec![0; length];
                file.fill(&mut bytes, offset)?;
                Ok(bytes)
            }
            Bytes::Stream { content, at, .. } => {
                let gap = offset.checked_sub(*at).ok_or(io::ErrorKind::Other)?;
                let skipped = io::copy(&mut content.by_ref().take(gap), &mut io::sink())?;
                let mut bytes = Vec::new();
                let n = read_up_to(content, &mut bytes, length)?;
                if skipped < gap || n < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *at = offset + length as u64;
                Ok(bytes)
            }
        }
    }
}
