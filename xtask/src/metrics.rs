//! Metrics of many hosts as CSV: the same arguments give the same bytes on every machine.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::{SignedDuration, Timestamp};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The first line of every file.
pub const HEADER: &str = "ts,hostname,region,usage_user,usage_system,usage_idle,usage_nice,\
                          usage_iowait,usage_irq,usage_steal";

/// Every host reports once in this many milliseconds.
pub const STEP_MS: i64 = 10_000;

const REGIONS: [&str; 5] = ["eu-central-1", "eu-west-1", "us-east-1", "us-west-2", "ap-south-1"];

/// Decimals of the five shares, in their order in a line.
const DECIMALS: [u32; 5] = [2, 4, 6, 3, 5];

/// What to generate.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Lines without the header.
    pub rows: u64,
    /// Hosts; each reports once per step.
    pub hosts: u64,
    /// Another seed gives other values under the same keys.
    pub seed: u64,
    /// The time of the first step.
    pub from: Timestamp,
    /// Lines in random order instead of by time. Holds the whole file in memory.
    pub shuffled: bool,
    /// Compress with gzip.
    pub gzip: bool,
}

impl Metrics {
    /// This many rows of this many hosts from 2024-01-01, by time, not compressed.
    pub fn new(rows: u64, hosts: u64) -> Self {
        let from = Timestamp::from_second(1_704_067_200).expect("2024 is a time");
        Metrics { rows, hosts: hosts.max(1), seed: 1, from, shuffled: false, gzip: false }
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        if self.gzip {
            let mut out = GzEncoder::new(out, Compression::fast());
            self.write_to(&mut out)?;
            return out.finish()?.flush();
        }
        let mut out = out;
        self.write_to(&mut out)?;
        out.flush()
    }

    /// Writes header and lines.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{HEADER}")?;
        if self.shuffled { self.shuffle(out) } else { self.lines(|line| out.write_all(line)) }
    }

    fn lines(&self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut line = Vec::with_capacity(160);
        let mut time = String::new();
        for row in 0..self.rows {
            let (step, host) = (row / self.hosts, row % self.hosts);
            if host == 0 {
                time = self.time(step);
            }
            line.clear();
            let region = REGIONS[(host % REGIONS.len() as u64) as usize];
            write!(line, "{time},host_{host:04},{region}")?;
            for decimals in DECIMALS {
                share(&mut line, rng.next_u64(), decimals)?;
            }
            let rest = rng.next_u64();
            writeln!(line, ",{},{}", rest % 5_000, (rest >> 32) % 100)?;
            take(&line)?;
        }
        Ok(())
    }

    fn time(&self, step: u64) -> String {
        let since = SignedDuration::from_millis(STEP_MS * step as i64);
        let time = self.from.checked_add(since).expect("a file ends before the year 9999");
        format!("{time:.3}")
    }

    fn shuffle(&self, out: &mut impl Write) -> io::Result<()> {
        let (mut text, mut ends) = (Vec::new(), Vec::new());
        self.lines(|line| {
            text.extend_from_slice(line);
            ends.push(text.len());
            Ok(())
        })?;
        let mut order: Vec<usize> = (0..ends.len()).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.wrapping_add(1));
        for last in (1..order.len()).rev() {
            order.swap(last, (rng.next_u64() % (last as u64 + 1)) as usize);
        }
        for line in order {
            let start = if line == 0 { 0 } else { ends[line - 1] };
            out.write_all(&text[start..ends[line]])?;
        }
        Ok(())
    }
}

/// A number from 0 to 100 with exactly this many decimals.
fn share(line: &mut Vec<u8>, random: u64, decimals: u32) -> io::Result<()> {
    let unit = 10_u64.pow(decimals);
    let value = random % (100 * unit);
    write!(line, ",{}.{:0width$}", value / unit, value % unit, width = decimals as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn text(metrics: &Metrics) -> String {
        let mut out = Vec::new();
        metrics.write_to(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_whole_and_the_same_every_time() {
        let metrics = Metrics::new(25, 10);
        let once = text(&metrics);
        assert_eq!(once, text(&metrics));
        assert_eq!(once.lines().count(), 26);
        let columns = HEADER.split(',').count();
        assert_eq!(columns, 10);
        assert!(once.lines().all(|l| l.split(',').count() == columns));
        let last = once.lines().last().unwrap();
        assert!(last.starts_with("2024-01-01T00:00:20.000Z,host_0004,ap-south-1,"), "{last}");
        let other = Metrics { seed: 2, ..metrics };
        assert_ne!(once, text(&other));
    }

    #[test]
    fn shuffling_moves_lines_and_keeps_each() {
        let metrics = Metrics::new(1_000, 7);
        let ordered = text(&metrics);
        let shuffled = text(&Metrics { shuffled: true, ..metrics });
        assert_ne!(ordered, shuffled);
        let set = |t: &str| t.lines().map(str::to_owned).collect::<HashSet<_>>();
        assert_eq!(set(&ordered), set(&shuffled));
        assert_eq!(shuffled.lines().next(), Some(HEADER));
    }

    #[test]
    fn gzip_holds_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv.gz");
        let metrics = Metrics { gzip: true, ..Metrics::new(100, 3) };
        metrics.write(&path).unwrap();
        let mut read = String::new();
        let file = File::open(&path).unwrap();
        io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut read).unwrap();
        assert_eq!(read, text(&metrics));
    }
}
