//! What can be known of a table before it is read or loaded.

use std::io::ErrorKind;

use retrofill_core::error::{Kind, Result};
use retrofill_core::examine::{self, End, Remark, Wanted};

use super::Shared;
use super::durable::random_name;

pub(super) fn examine(shared: &Shared, wanted: &Wanted) -> Result<Vec<Remark>> {
    let mut remarks = match shared.log.newest(|state| state.fields.clone()) {
        Ok(Some(fields)) => {
            let mut remarks = vec![Remark::ok("table", "it is there")];
            remarks.extend(examine::table(wanted, &fields));
            remarks
        }
        Ok(None) if wanted.end == End::Target => {
            vec![Remark::ok("table", "there is none; the first run creates it")]
        }
        Ok(None) => vec![Remark::error("table", "there is none")],
        Err(e) if e.kind() == Kind::Config => vec![Remark::refused("table", &e)],
        Err(e) => return Err(e),
    };
    if wanted.end == End::Target {
        remarks.push(writable(shared));
    }
    Ok(remarks)
}

/// Writes a small file under a name that no reader sees, and takes it away again. A directory
/// that is not there yet is not made.
fn writable(shared: &Shared) -> Remark {
    let disk = shared.log.durable().disk();
    let place = disk.describe("");
    let tried = random_name().and_then(|name| {
        let probe = format!(".retrofill-{name}");
        let made = disk.create(&probe).and_then(|mut file| file.sync());
        match disk.remove(&probe) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => made,
        }
    });
    match tried {
        Ok(()) => Remark::ok("directory", format!("{place} can be written")),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Remark::ok("directory", format!("{place} is not there yet"))
        }
        Err(e) => Remark::error("directory", format!("{place} cannot be written: {e}"))
            .hint("the user that runs retrofill needs the right to create files in it"),
    }
}
