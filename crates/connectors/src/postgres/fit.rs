//! Whether a table takes loads safely: what would change, hide or double rows is refused.

use retrofill_core::columns::{Column, Columns};
use retrofill_core::connector::Manners;
use retrofill_core::error::{Error, Result};
use retrofill_core::spec::Mode;

use super::catalog::{On, Table, TableColumn};
use super::sql::TableName;
use super::{copy, ddl};

/// An error where a row that takes the place of another would lose values.
pub(super) fn keeps_all(name: &TableName, table: &Table, columns: &Columns) -> Result<()> {
    let planned = |column: &&TableColumn| columns.iter().any(|c| c.name == column.name);
    let lost = table.columns.iter().filter(|c| !c.generated).find(|c| !planned(c));
    let Some(lost) = lost else { return Ok(()) };
    let what = format!("column `{}` of {name} is not in the source", lost.name);
    Err(Error::config(format!("{what}: a replaced row would lose its value"))
        .hint("take it into the source, or use mode fill-missing, which replaces nothing"))
}

/// An error where rows of others are bound to rows of this table, or its rows do not go.
pub(super) fn lets_go(name: &TableName, table: &Table) -> Result<()> {
    if let Some(rule) = table.rule(On::Delete) {
        let what = format!("{name} has the rule `{}` on DELETE: rows might stay", rule.name);
        return Err(Error::config(what).hint("drop the rule; mode fill-missing takes no row out"));
    }
    let Some(key) = table.referrers.first() else { return Ok(()) };
    Err(Error::config(format!(
        "rows of other tables point at {name} by `{key}`: they hold what is to go, or go with it"
    ))
    .hint("mode fill-missing takes no row out"))
}

/// An error where the table would change, hide or double rows.
pub(super) fn accepts(
    name: &TableName,
    table: &Table,
    (columns, mode, manners): (&Columns, Mode, Manners),
) -> Result<()> {
    if let Some(flaw) = flaws(name, table)?.into_iter().next() {
        return Err(flaw);
    }
    if matches!(mode, Mode::Upsert | Mode::Replace) {
        lets_go(name, table)?;
    }
    copy::kinds(table, columns)?;
    let generated = |c: &&Column| table.column(&c.name).is_some_and(|there| there.generated);
    if let Some(column) = columns.iter().find(generated) {
        return Err(Error::config(format!(
            "column `{}` of {name} is generated: nobody writes it",
            column.name
        ))
        .hint("leave it out of the source"));
    }
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    if mode == Mode::Append {
        return Ok(());
    }
    let guarded = manners.locks || manners.alone;
    accepts_key(name, table, &names[..columns.key_width()], guarded)
}

/// What keeps any load out of the table.
pub(super) fn flaws(name: &TableName, table: &Table) -> Result<Vec<Error>> {
    let mut flaws = Vec::new();
    let mut flaw = |what: String, hint: String| flaws.push(Error::config(what).hint(hint));
    if let Some(rule) = table.rule(On::Insert) {
        let rule = &rule.name;
        flaw(
            format!("{name} has the rule `{rule}` on INSERT, which binary COPY goes past"),
            "drop the rule, or load into the table that it leads to".into(),
        );
    }
    if table.hides_rows {
        flaw(
            format!("row-level security of {name} hides rows from this user"),
            "load as the table's owner, or as a role with BYPASSRLS".into(),
        );
    }
    if table.inherited {
        flaw(
            format!("other tables inherit from {name}: no unique index holds for them all"),
            "load into a table that nothing inherits from".into(),
        );
    }
    match table.persistence.as_str() {
        "p" => {}
        "u" => flaw(
            format!("{name} is unlogged: a crash of the server empties it"),
            format!("ALTER TABLE {} SET LOGGED", name.sql()?),
        ),
        _ => flaw(format!("{name} is temporary"), "load into a permanent table".into()),
    }
    if let Some(part) = table.fleeting_part().filter(|_| table.persistence == "p") {
        flaw(
            format!("{} of {name} is unlogged: a crash of the server empties it", part.name),
            format!("ALTER TABLE {} SET LOGGED", part.name),
        );
    }
    Ok(flaws)
}

/// Whether a live row with a key of ours could slip in unseen: the snapshot does not show it, and
/// nothing but a unique index makes the two collide.
pub(super) fn accepts_key(
    name: &TableName,
    table: &Table,
    key: &[&str],
    guarded: bool,
) -> Result<()> {
    if let Some(part) = key.iter().find(|n| table.column(n).is_some_and(|c| !c.can_be_key())) {
        return Err(Error::config(format!(
            "column `{part}` of {name} cannot be part of the key: the server compares it otherwise"
        ))
        .hint("a type with exact comparison is needed, such as text with its usual collation"));
    }
    if guarded || table.has_unique(key) {
        return Ok(());
    }
    Err(Error::config(format!("{name} has no unique index on the key")).hint(format!(
        "run: {}; or let others wait with `write: {{ lock: share-row-exclusive }}`, or assert that \
         there are none with `live_writers: none`",
        ddl::unique_index_ddl(name, key)?
    )))
}
