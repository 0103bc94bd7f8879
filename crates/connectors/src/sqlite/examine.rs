//! What the table tells before its rows are read.

use retrofill_core::error::{Kind, Result};
use retrofill_core::examine::{Remark, Wanted};

use super::Shared;
use super::survey::form;
use super::table::Table;
use crate::files::list;

/// Opens the database and looks at the table and the first of its times.
pub(super) fn examine(shared: &Shared, wanted: &Wanted) -> Result<Vec<Remark>> {
    match looked(shared, wanted) {
        Ok(remarks) => Ok(remarks),
        Err(e) if e.kind() == Kind::Config => Ok(vec![Remark::refused("table", &e)]),
        Err(e) => Err(e),
    }
}

fn looked(shared: &Shared, wanted: &Wanted) -> Result<Vec<Remark>> {
    let connection = shared.connect()?;
    let table = Table::look(shared, &connection)?;
    let names = table.names();
    let mut remarks = vec![
        Remark::ok("table", format!("`{}`", shared.settings.table)),
        Remark::ok("columns", list(&names)),
    ];
    if let Err(e) = shared.types.check(&names) {
        remarks.push(Remark::refused("columns", &e));
    }
    let time = &wanted.rows.time;
    let found = table.time(shared, time).and_then(|_| form(shared, &connection, &table, time));
    remarks.push(match found {
        Ok(Some(form)) => Remark::ok("time column", format!("`{time}`, {}", form.name())),
        Ok(None) => Remark::warning("time column", format!("`{time}` holds nothing but NULL")),
        Err(e) => Remark::refused("time column", &e),
    });
    for name in wanted.named() {
        if table.column(name).is_none() {
            remarks.push(Remark::error("columns", format!("the table has no column `{name}`")));
        }
    }
    Ok(remarks)
}
