//! A large CSV file that is packed with gzip as it is generated: nobody can enter it in the middle.
//! It is loaded in bounded memory, and another reader accounts for every row.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::trunk::PEAK_MAX_MIB;
use super::{Bench, python_script};
use crate::commands::number;
use crate::shell::{self, Done, Failure};

/// Of text, before it is packed.
pub(in super::super) const MEGABYTES: u64 = 10_000;

/// Every host reports once in ten seconds.
const HOSTS: u64 = 1_000;
const STEP: u64 = 10;
/// A minute before 2024-01-01: a stream of some steps has two hours.
const FROM: u64 = 1_704_067_140;

/// Long, and alike: so it packs well, but not so well that it is taken for a bomb.
const STATES: [&str; 5] = [
    "state 0: all is well and nothing waits to be done by anybody",
    "state 1: the fan of the second cabinet turns slower than it should",
    "state 2: the battery is charged by less than a half",
    "state 3: nobody has confirmed the last restart of the controller yet",
    "state 4: the link to the north is down and the one to the south carries all",
];

/// What an hour holds; the same numbers as `tally.py` prints.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hour {
    rows: u64,
    least: u64,
    most: u64,
    sum: u64,
    bound: u128,
}

/// Hours since 1970.
type Tally = BTreeMap<u64, Hour>;

/// Loads so many megabytes and tells how that went.
pub(in super::super) fn run(args: &[String]) -> Done<String> {
    let bench = Bench::new("gzip-stream", args)?;
    let megabytes = number(args, "--megabytes")?.unwrap_or(MEGABYTES).max(1);
    let result = load(&bench, megabytes * 1_000_000);
    fs::remove_dir_all(&bench.dir)?;
    result
}

fn load(bench: &Bench, bytes: u64) -> Done<String> {
    println!("generating {} MB", bytes / 1_000_000);
    let file = bench.path("stream.csv.gz");
    let tally = write(&file, bytes)?;
    bench.spec("stream.csv.gz", "1h", "")?;
    let used = bench.measure("run", 0)?;
    let mut script = python_script("tally.py");
    compare(&tally, &shell::output(script.arg(bench.path("out")))?)?;
    if used.peak_mib > PEAK_MAX_MIB {
        return Err(Failure::new(format!("peak {:.0} MiB, may be {PEAK_MAX_MIB}", used.peak_mib)));
    }
    Ok(format!(
        "{} rows in {} slices, {:.0} MB packed; {:.0} s, {:.0} MB/s, peak {:.0} MiB",
        tally.values().map(|h| h.rows).sum::<u64>(),
        tally.len(),
        fs::metadata(&file)?.len() as f64 / 1e6,
        used.seconds,
        bytes as f64 / 1e6 / used.seconds,
        used.peak_mib
    ))
}

/// Writes at least so many bytes of text, packed on their way; tells what they hold.
fn write(path: &Path, bytes: u64) -> Done<Tally> {
    let out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut out = GzEncoder::new(out, Compression::fast());
    let mut line = b"ts,hostname,state,a,b\n".to_vec();
    out.write_all(&line)?;
    let mut written = line.len() as u64;
    let mut tally = Tally::new();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for row in 0.. {
        if written >= bytes {
            break;
        }
        let (second, host) = (FROM + row / HOSTS * STEP, row % HOSTS);
        let time =
            Timestamp::from_second(second as i64).map_err(|e| Failure::new(e.to_string()))?;
        let random = rng.next_u64();
        let (a, b, state) = (random % 100_000, (random >> 20) % 1_000_000, (random >> 40) % 5);
        line.clear();
        writeln!(line, "{time},host_{host:04},{},{a},{b}", STATES[state as usize])?;
        out.write_all(&line)?;
        written += line.len() as u64;
        let bound = second % 99_991 * (host + 1) * (a + 1) + b * (state + 1);
        tally.entry(second / 3_600).or_default().take(a, bound);
    }
    out.finish()?.flush()?;
    Ok(tally)
}

impl Hour {
    fn take(&mut self, a: u64, bound: u64) {
        self.least = if self.rows == 0 { a } else { self.least.min(a) };
        self.most = self.most.max(a);
        self.rows += 1;
        self.sum += a;
        self.bound += u128::from(bound);
    }
}

/// Fails where another reader found something else in the table.
fn compare(tally: &Tally, found: &str) -> Done {
    let expected: Vec<String> = tally
        .iter()
        .map(|(hour, Hour { rows, least, most, sum, bound })| {
            format!("{hour} {rows} {least} {most} {sum} {bound}")
        })
        .collect();
    let mut found = found.lines();
    for hour in &expected {
        let line = found.next().unwrap_or("nothing");
        if line != hour {
            return Err(Failure::new(format!("the table holds `{line}`, not `{hour}`")));
        }
    }
    match found.next() {
        None => Ok(()),
        Some(line) => Err(Failure::new(format!("the table holds `{line}` besides"))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// What the text says itself, cell by cell.
    fn read(text: &str) -> Tally {
        let mut tally = Tally::new();
        for line in text.lines().skip(1) {
            let [time, host, state, a, b] = line.split(',').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let second = time.parse::<Timestamp>().unwrap().as_second() as u64;
            let number = |text: &str| text.parse::<u64>().unwrap();
            let (a, b) = (number(a), number(b));
            let (host, state) = (number(&host[5..]), number(&state[6..7]));
            let bound = second % 99_991 * (host + 1) * (a + 1) + b * (state + 1);
            tally.entry(second / 3_600).or_default().take(a, bound);
        }
        tally
    }

    #[test]
    fn the_tally_is_that_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv.gz");
        let tally = write(&path, 1_000_000).unwrap();
        let mut text = String::new();
        let mut file = flate2::read::GzDecoder::new(File::open(&path).unwrap());
        file.read_to_string(&mut text).unwrap();
        assert!((1_000_000..1_000_200).contains(&text.len()), "{}", text.len());
        assert_eq!(tally.len(), 2);
        assert_eq!(tally, read(&text));
        let packed = fs::metadata(&path).unwrap().len();
        assert!(packed * 50 > text.len() as u64, "it packs too well: {packed}");
    }

    #[test]
    fn a_table_that_differs_is_told() {
        let mut tally = Tally::new();
        tally.entry(7).or_default().take(5, 3);
        tally.entry(7).or_default().take(2, 4);
        assert!(compare(&tally, "7 2 2 5 7 7\n").is_ok());
        for found in ["", "7 2 2 5 7 8\n", "7 1 2 5 7 7\n", "7 2 2 5 7 7\n8 1 1 1 1 1\n"] {
            assert!(compare(&tally, found).is_err(), "{found}");
        }
    }
}
