//! `server`: a PostgreSQL to throw away, for as long as the command runs.

use std::io::{self, BufRead as _};

use crate::consent::Consent;
use crate::need::Need;
use crate::servers::{self, Postgres};
use crate::shell::{Done, Failure};

pub(super) fn run(args: &[String]) -> Done {
    servers::ensure(&[Need::Postgres], Consent::from(args))?;
    if !Need::Postgres.is_here() {
        return Err(Failure::new("without the server there is nothing to start"));
    }
    let server = Postgres::start()?;
    let database = server.database();
    println!("export TSDB_URL={}", database.url());
    println!("# Enter, or the end of this command, ends the server and removes its data.");
    io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}
