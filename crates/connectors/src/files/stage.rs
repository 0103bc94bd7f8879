//! Sorts a source into the state dir, once, in bounded memory, so that it can be stopped at any
//! point and goes on where it was.
//!
//! Pass 1 parses all blocks that any slice needs, on all cores, and appends each record to the
//! bucket of its slice, in the order of the source. Pass 2 takes each bucket apart into its
//! slices; as the records come in order, nothing is compared. The copy is raw text and not
//! Parquet: rejects keep the text of their record, and the parser of the direct path is the only
//! one.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use retrofill_core::columns::Columns;
use retrofill_core::connector::{Pulse, StageRequest};
use retrofill_core::error::{Error, Result};
use retrofill_core::interval::Interval;
use retrofill_core::survey::{Block, Survey};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::Shared;
use super::blocks::Surveyed;
use super::buckets::{
    Output, Parsed, Placed, RAW_HEAD, RawBuckets, cut_pieces, open_raw, raw_path, read_head,
};
use super::header::Order;
use super::parallel::ordered;
use super::sorted_copy::root;
use super::staging::{
    HEAD, Manifest, Piece, Staging, bucket_path, disk, fingerprint, number, read_json, settle,
    write_json,
};
use super::taker::Placer;
use super::time::Moment;

/// The most buckets: each is an open file with a buffer.
const MOST_BUCKETS: u64 = 256;

/// The slices in order, each instant in one only.
pub(crate) fn disjoint(slices: &[Interval]) -> Vec<Interval> {
    let mut sorted = slices.to_vec();
    sorted.sort_unstable_by_key(|s| (s.start(), s.end()));
    let mut out: Vec<Interval> = Vec::with_capacity(sorted.len());
    for slice in sorted {
        let from = out.last().map_or(slice.start(), |last| last.end().max(slice.start()));
        out.extend(Interval::new(from, slice.end()));
    }
    out
}

/// The slices a block overlaps.
pub(crate) fn touched(block: &Block, slices: &[Interval]) -> std::ops::Range<usize> {
    if block.rows == 0 {
        return 0..0;
    }
    let from = slices.partition_point(|s| s.end() <= block.min);
    let to = slices.partition_point(|s| s.start() <= block.max);
    from..to.max(from)
}

/// Whether slices of this source cannot be read, or only by reading far more than it holds.
pub(super) fn is_needed(shared: &Shared, survey: &Survey, slices: &[Interval]) -> bool {
    if shared.any_stream(survey, &survey.blocks) {
        return true;
    }
    let slices = disjoint(slices);
    let read: u64 = survey.blocks.iter().map(|b| b.length * touched(b, &slices).len() as u64).sum();
    read > shared.sizes.cheap && read > survey.bytes + survey.bytes / 2
}

/// Slices for a copy that is needed before anybody has said which slices there will be.
pub(super) fn even_slices(shared: &Shared, survey: &Survey) -> Vec<Interval> {
    let Some((min, max)) = survey.time_range() else { return Vec::new() };
    let (from, to) = (min.as_nanosecond(), max.as_nanosecond() + 1);
    let parts = i128::from((survey.bytes / (2 * shared.sizes.chunk as u64)).clamp(1, 1024));
    let bound = |i: i128| Timestamp::from_nanosecond(from + (to - from) * i / parts).ok();
    let part = |i| Interval::new(bound(i)?, bound(i + 1)?).ok();
    (0..parts).filter_map(part).collect()
}

/// Pass 1 is done.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "v")]
enum Distributed {
    #[serde(rename = "1")]
    V1 {
        /// Bytes of each slice, sorted.
        bytes: Vec<u64>,
        /// See [`Manifest`].
        orders: Vec<Order>,
    },
}

/// A bucket is sorted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "v")]
enum Sorted {
    #[serde(rename = "1")]
    V1 {
        /// For each slice of the bucket.
        pieces: Vec<Vec<Piece>>,
    },
}

/// One copy in the making.
struct Job<'a> {
    shared: &'a Shared,
    survey: &'a Survey,
    /// Told of the bytes that went through both passes.
    pulse: &'a Pulse,
    slices: Vec<Interval>,
    /// For each slice its bucket.
    buckets: Vec<usize>,
    dir: PathBuf,
}

/// Makes the copy, or finishes it, or finds it finished. Copies of other plans are removed.
pub(super) fn build(shared: &Shared, request: &StageRequest) -> Result<Staging> {
    let StageRequest { survey, columns, slices, pulse } = request;
    let slices = disjoint(slices);
    let root = root(&shared.state);
    let names: Vec<_> = survey.source_columns().iter().map(|c| &c.name).collect();
    let time = columns.time().source_name();
    let identity = (fingerprint(survey), &survey.time_form, &shared.settings, names, time, &slices);
    let mut identity = serde_json::to_vec(&identity)
        .map_err(|e| Error::bug("cannot write an identity as JSON").because(e))?;
    if let Some(transform) = &shared.transform {
        identity.extend_from_slice(transform.text().as_bytes());
    }
    let key = format!("{:032x}", xxh3_128(&identity));
    let dir = root.join(&key);
    std::fs::create_dir_all(&dir).map_err(|e| disk(&dir, e))?;
    for entry in std::fs::read_dir(&root).map_err(|e| disk(&root, e))? {
        let entry = entry.map_err(|e| disk(&root, e))?;
        if entry.file_name() != key.as_str() {
            std::fs::remove_dir_all(entry.path()).map_err(|e| disk(&entry.path(), e))?;
        }
    }
    if let Some(staging) = Staging::open(&dir) {
        return Ok(staging);
    }
    let buckets = assign(survey, &slices, shared.sizes.bucket);
    Job { shared, survey, pulse, slices, buckets, dir }.run(columns)
}

/// Groups neighbouring slices into buckets of about `size` bytes, by what the survey knows.
fn assign(survey: &Survey, slices: &[Interval], size: u64) -> Vec<usize> {
    // Each block's bytes are spread evenly over the slices it overlaps: changes at slice bounds.
    let mut changes = vec![0.0; slices.len() + 1];
    for block in &survey.blocks {
        let range = touched(block, slices);
        let share = block.length as f64 / range.len().max(1) as f64;
        changes[range.start] += share;
        changes[range.end] -= share;
    }
    let size = size.max(survey.bytes / MOST_BUCKETS) as f64;
    let (mut share, mut sum, mut bucket) = (0.0, 0.0, 0);
    let mut place = |change: &f64| {
        share += change;
        if sum > 0.0 && sum + share > size {
            bucket += 1;
            sum = 0.0;
        }
        sum += share;
        bucket.min(2 * MOST_BUCKETS as usize)
    };
    changes[..slices.len()].iter().map(&mut place).collect()
}

impl Job<'_> {
    fn run(self, columns: &Columns) -> Result<Staging> {
        let marker = self.dir.join("distributed.json");
        let earlier = read_json(&marker).filter(|_| self.is_resumable());
        let Distributed::V1 { bytes, orders } = if let Some(done) = earlier {
            done
        } else {
            let done = self.distribute(columns)?;
            write_json(&marker, &done)?;
            done
        };
        let mut pieces = Vec::with_capacity(self.slices.len());
        let all: u64 = bytes.iter().sum();
        let (mut first, mut sorted_bytes) = (0, 0);
        while first < self.slices.len() {
            self.pulse.beat(all + sorted_bytes, 2 * all)?;
            let bucket = self.buckets[first];
            let count = self.buckets[first..].iter().take_while(|b| **b == bucket).count();
            let done = self.marker(bucket);
            let Sorted::V1 { pieces: of_bucket } = if let Some(sorted) = read_json(&done) {
                sorted
            } else {
                let sorted = self.sort(bucket, first, &bytes[first..first + count])?;
                write_json(&done, &sorted)?;
                sorted
            };
            // Gone already where an earlier try came this far.
            let _ = std::fs::remove_file(raw_path(&self.dir, bucket));
            pieces.extend(of_bucket);
            sorted_bytes += bytes[first..first + count].iter().sum::<u64>();
            first += count;
        }
        let manifest = Manifest::V1 {
            survey: fingerprint(self.survey),
            slices: self.slices,
            buckets: self.buckets,
            pieces,
            orders,
        };
        Staging::create(&self.dir, manifest)
    }

    /// Whether what pass 1 made of each bucket is there, or what pass 2 made of that.
    fn is_resumable(&self) -> bool {
        let mut buckets = self.buckets.clone();
        buckets.dedup();
        buckets.iter().all(|bucket| {
            raw_path(&self.dir, *bucket).exists()
                || read_json::<Sorted>(&self.marker(*bucket)).is_some()
        })
    }

    /// Written once a bucket is sorted.
    fn marker(&self, bucket: usize) -> PathBuf {
        self.dir.join(format!("bucket-{bucket:04}.json"))
    }

    /// Pass 1.
    fn distribute(&self, columns: &Columns) -> Result<Distributed> {
        let mut orders = vec![Order::default(); self.survey.files.len()];
        let mut bytes = vec![0; self.slices.len()];
        let placer = Placer::new(self.shared, self.survey, columns)?;
        let Some(placer) = placer else { return Ok(Distributed::V1 { bytes, orders }) };
        let needed = |b: &&Block| !touched(b, &self.slices).is_empty();
        let all: u64 = self.survey.blocks.iter().filter(needed).map(|b| b.length).sum();
        let mut read = 0;
        let mut blocks = self.survey.blocks.iter().filter(needed);
        let mut open: Option<(u32, Surveyed<'_>, Arc<Order>)> = None;
        let next = || {
            let Some(block) = blocks.next() else { return Ok(None) };
            if open.as_ref().is_none_or(|(file, ..)| *file != block.file) {
                let file = self.shared.surveyed(self.survey, block.file)?;
                let order = Arc::new(file.order.clone());
                orders[block.file as usize].clone_from(&file.order);
                open = Some((block.file, file, order));
            }
            let (_, file, order) = open.as_mut().expect("it was opened just now");
            let bytes = file.read(std::slice::from_ref(block))?;
            Ok(Some((block, bytes, Arc::clone(order))))
        };
        let work = |(block, bytes, order): (&Block, Vec<u8>, Arc<Order>)| {
            let records = self.place(&placer, block, &bytes, &order)?;
            Ok(Parsed { bytes, file: block.file, offset: block.offset, records })
        };
        let mut raw = RawBuckets::create(&self.dir, self.buckets.last().map_or(0, |b| b + 1))?;
        ordered(next, work, |parsed| {
            read += parsed.bytes.len() as u64;
            self.pulse.beat(read, 2 * all)?;
            for (slice, start, end, _) in &parsed.records {
                bytes[*slice as usize] += HEAD as u64 + u64::from(end - start);
            }
            raw.append(&self.buckets, &parsed)
        })?;
        raw.finish()?;
        Ok(Distributed::V1 { bytes, orders })
    }

    fn place(
        &self,
        placer: &Placer<'_>,
        block: &Block,
        bytes: &[u8],
        order: &Order,
    ) -> Result<Vec<Placed>> {
        let mut placed = Vec::new();
        let bounds: Vec<_> = touched(block, &self.slices)
            .map(|i| (i, Moment::new(self.slices[i].start()), Moment::new(self.slices[i].end())))
            .collect();
        placer.each(block, bytes, order, &mut |line, moment| {
            let at = bounds.partition_point(|(_, _, to)| *to <= moment);
            if let Some((slice, from, _)) = bounds.get(at)
                && *from <= moment
            {
                placed.push((*slice as u32, line.start as u32, line.end as u32, line.number));
            }
        })?;
        Ok(placed)
    }

    /// Pass 2 for one bucket: `sizes` are the bytes of its slices, of which `first` is the first.
    fn sort(&self, bucket: usize, first: usize, sizes: &[u64]) -> Result<Sorted> {
        let to = bucket_path(&self.dir, bucket);
        let part = to.with_extension("part");
        let mut out = Output {
            file: File::create(&part).map_err(|e| disk(&part, e))?,
            path: part.clone(),
            offset: 0,
            pieces: vec![Vec::new(); sizes.len()],
        };
        let mut from = 0;
        while from < sizes.len() {
            let mut sum = 0;
            let fits = |size: &&u64| {
                sum += **size;
                sum <= self.shared.sizes.bucket
            };
            let count = sizes[from..].iter().take_while(fits).count().max(1);
            if sizes[from..from + count].iter().any(|s| *s > 0) {
                self.sort_some(bucket, first + from, from, &sizes[from..from + count], &mut out)?;
            }
            from += count;
        }
        out.file.sync_all().and_then(|()| settle(&part, &to)).map_err(|e| disk(&to, e))?;
        Ok(Sorted::V1 { pieces: out.pieces })
    }

    /// Takes some neighbouring slices out of a bucket: together no more than fits in memory, or
    /// one alone, written as it comes.
    fn sort_some(
        &self,
        bucket: usize,
        slice: usize,
        index: usize,
        sizes: &[u64],
        out: &mut Output,
    ) -> Result<()> {
        let raw = raw_path(&self.dir, bucket);
        let sort_at_once = self.shared.sizes.bucket;
        let capacity = |size: &u64| Vec::with_capacity((*size).min(sort_at_once) as usize);
        let mut buffers: Vec<Vec<u8>> = sizes.iter().map(capacity).collect();
        let mut input = BufReader::with_capacity(1 << 20, open_raw(&raw)?);
        let mut head = [0; RAW_HEAD];
        while read_head(&mut input, &mut head).map_err(|e| disk(&raw, e))? {
            let of = number::<4>(&head, HEAD).unwrap_or(u64::MAX) as usize;
            let length = number::<4>(&head, HEAD - 4).unwrap_or(0);
            let Some(buffer) = of.checked_sub(slice).and_then(|i| buffers.get_mut(i)) else {
                input.seek_relative(length as i64).map_err(|e| disk(&raw, e))?;
                continue;
            };
            buffer.extend_from_slice(&head[..HEAD]);
            let n = input.by_ref().take(length).read_to_end(buffer).map_err(|e| disk(&raw, e))?;
            if n as u64 != length {
                return Err(disk(&raw, std::io::ErrorKind::UnexpectedEof.into()));
            }
            if sizes.len() == 1 && buffer.len() >= self.shared.sizes.chunk {
                out.piece(index, buffer)?;
                buffer.clear();
            }
        }
        for (i, buffer) in buffers.iter().enumerate() {
            for piece in cut_pieces(buffer, self.shared.sizes.chunk) {
                out.piece(index + i, piece)?;
            }
        }
        Ok(())
    }
}
