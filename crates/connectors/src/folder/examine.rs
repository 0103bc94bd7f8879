//! What can be known of a folder before it is loaded.

use std::io::ErrorKind;
use std::sync::Arc;

use retrofill_core::error::{Kind, Result};
use retrofill_core::examine::{self, Remark, Verdict, Wanted};

use super::blocking;
use super::contents::{Contents, Shared};
use super::names::is_hidden;
use super::table;
use crate::delta::random_name;

/// Room that a disk should have at least.
const LITTLE: u64 = 256 << 20;

/// Lists the folder, opens every file and looks at its head.
pub(super) async fn examine(shared: &Arc<Shared>, wanted: &Wanted) -> Result<Vec<Remark>> {
    let at = shared.clone();
    let looked = blocking(move || Ok((table::recorded(&at)?, at.list()?))).await;
    let (recorded, contents) = match looked {
        Ok(found) => found,
        Err(e) if e.kind() == Kind::Config => return Ok(vec![Remark::refused("folder", &e)]),
        Err(e) => return Err(e),
    };
    let mut remarks = vec![there(&contents)];
    match recorded {
        Some(columns) => remarks.extend(examine::table(wanted, &columns)),
        None => remarks.extend(heads(&contents, wanted).await?),
    }
    let at = shared.clone();
    remarks.extend(blocking(move || Ok(disk(&at))).await?);
    Ok(remarks)
}

fn there(contents: &Contents) -> Remark {
    let bytes: u64 = contents.values().map(|p| p.size).sum();
    let found = match contents.len() {
        0 => "it holds no rows; the first run makes it".to_owned(),
        1 => format!("1 file, {:.1} MB", bytes as f64 / 1e6),
        n => format!("{n} files, {:.1} MB", bytes as f64 / 1e6),
    };
    Remark::ok("folder", found)
}

/// What stands in the way in the heads of the files; the first of each kind.
async fn heads(contents: &Contents, wanted: &Wanted) -> Result<Vec<Remark>> {
    let mut wrong: Vec<(Remark, usize)> = Vec::new();
    // What is wrong with files of ours is a matter of their slices.
    let parts: Vec<_> = contents.values().filter(|part| part.own.is_none()).collect();
    for part in &parts {
        for remark in part.source.examine(wanted).await? {
            match wrong.iter_mut().find(|(known, _)| known.found == remark.found) {
                Some((_, times)) => *times += 1,
                None if remark.verdict == Verdict::Error => wrong.push((remark, 1)),
                None => {}
            }
        }
    }
    // A file may lack a column that another one has.
    let counts =
        |(remark, times): &(Remark, usize)| remark.what != "columns" || *times == parts.len();
    Ok(wrong.into_iter().filter(counts).map(|(remark, _)| remark).collect())
}

/// Whether files can be written, and how much room there is. A folder that is not there yet is not
/// made.
fn disk(shared: &Shared) -> Vec<Remark> {
    let disk = shared.durable.disk();
    let place = disk.describe("");
    let tried = random_name().and_then(|name| {
        let probe = format!(".retrofill-{name}");
        debug_assert!(is_hidden(&probe), "no reader sees it");
        let made = disk.create(&probe).and_then(|mut file| file.sync());
        match disk.remove(&probe) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => made,
        }
    });
    let mut remarks = vec![match tried {
        Ok(()) => Remark::ok("rights", format!("{place} can be written")),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Remark::ok("rights", format!("{place} is not there yet"))
        }
        Err(e) => Remark::error("rights", format!("{place} cannot be written: {e}"))
            .hint("the user that runs retrofill needs the right to create files in it"),
    }];
    if let Ok(stat) = rustix::fs::statvfs(&shared.base) {
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let found = format!("{:.1} GB free", free as f64 / 1e9);
        remarks.push(if free < LITTLE {
            Remark::warning("disk", found).hint("a load needs room for its rows once more")
        } else {
            Remark::ok("disk", found)
        });
    }
    remarks
}
