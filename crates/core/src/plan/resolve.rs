//! From the source's columns and the target's table to the columns of the plan.

use crate::columns::{Column, ColumnType, Columns, Role};
use crate::connector::{FieldType, Fill, Target};
use crate::error::{Error, Result};
use crate::names::nearest;
use crate::scope::Within;
use crate::spec::{RowsSpec, WriteSpec};

/// The plan's columns, and what the user should know of them. Where the target's table exists,
/// its names and types win; else the target says how it would keep each type.
pub fn resolve_columns(
    (rows, write): (&RowsSpec, &WriteSpec),
    source: &[FieldType],
    table: Option<&[FieldType]>,
    target: &dyn Target,
) -> Result<(Columns, Vec<String>)> {
    check_named(rows, source)?;
    let mut notes = Vec::new();
    let mut list = Vec::new();
    for (position, field) in source.iter().enumerate() {
        let (name, ty) = match table {
            Some(table) => {
                let column = counterpart(field, table, &mut notes)?;
                (column.name.clone(), column.ty)
            }
            None => (field.name.clone(), kept(field, target)?),
        };
        let source = (name != field.name).then(|| field.name.clone());
        let role = role(rows, &field.name);
        list.push((Column { name, ty, role, position: position as u32, source }, field));
    }
    if let Some(table) = table {
        check_left_out(write, table, &list, &mut notes)?;
    }
    let key = rows.key.as_deref().unwrap_or_default();
    // Keys come in the order of the spec; `Columns` keeps the order given.
    list.sort_by_key(|(_, field)| key.iter().position(|k| *k == field.name));
    let columns = Columns::new(list.into_iter().map(|(column, _)| column).collect())?;
    if let Some(scope) = &write.scope {
        Within::new(scope, &columns)?;
    }
    Ok((columns, notes))
}

/// Fails where the spec names a column that the source does not have; tells which setting it was.
fn check_named(rows: &RowsSpec, source: &[FieldType]) -> Result<()> {
    let listed = |setting: &'static str, list: &Option<Vec<String>>| {
        let list = list.clone().unwrap_or_default();
        list.into_iter().enumerate().map(move |(i, name)| (format!("{setting}.{i}"), name))
    };
    let time = ("rows.time".to_owned(), rows.time.clone());
    let all = std::iter::once(time)
        .chain(listed("rows.key", &rows.key))
        .chain(listed("rows.compare", &rows.compare));
    for (setting, name) in all {
        if source.iter().any(|f| f.name == name) {
            continue;
        }
        let columns = format!("its columns are {}", names(source));
        let hint = match nearest(&name, source.iter().map(|f| f.name.as_str())) {
            Some(meant) => format!("did you mean `{meant}`? {columns}"),
            None => columns,
        };
        let error = Error::config(format!("the source has no column `{name}`"));
        return Err(error.hint(hint).about(setting));
    }
    Ok(())
}

fn role(rows: &RowsSpec, name: &str) -> Role {
    if name == rows.time {
        Role::Time
    } else if rows.key.iter().flatten().any(|k| k == name) {
        Role::Key
    } else {
        Role::Value
    }
}

fn kept(field: &FieldType, target: &dyn Target) -> Result<ColumnType> {
    target.keeps(field.ty).map_err(|e| e.at(format!("column `{}`", field.name)))
}

/// The table's column for a source column: the same name, else the only one that differs in case.
fn counterpart<'t>(
    field: &FieldType,
    table: &'t [FieldType],
    notes: &mut Vec<String>,
) -> Result<&'t FieldType> {
    if let Some(exact) = table.iter().find(|t| t.name == field.name) {
        return Ok(exact);
    }
    let folded = field.name.to_lowercase();
    let alike: Vec<_> = table.iter().filter(|t| t.name.to_lowercase() == folded).collect();
    match alike[..] {
        [one] => {
            notes.push(format!(
                "source column `{}` goes to the table's column `{}`",
                field.name, one.name
            ));
            Ok(one)
        }
        [] => Err(Error::config(format!("the target's table has no column `{}`", field.name))
            .hint(format!("its columns are {}", names(table)))),
        _ => Err(Error::config(format!(
            "several columns of the target's table match `{}`: {}",
            field.name,
            names(table)
        ))
        .hint("name the source's column exactly as the table's")),
    }
}

fn check_left_out(
    write: &WriteSpec,
    table: &[FieldType],
    list: &[(Column, &FieldType)],
    notes: &mut Vec<String>,
) -> Result<()> {
    let left_out = |t: &&FieldType| !list.iter().any(|(c, _)| c.name == t.name);
    for field in table.iter().filter(left_out).filter(|t| t.fill != Fill::Computed) {
        if !field.nullable {
            return Err(Error::config(format!(
                "the table's column `{}` may not be NULL, and the source does not have it",
                field.name
            )));
        }
        if write.replaces() {
            return Err(Error::config(format!(
                "the source does not have the table's column `{}`, so mode `{}` would empty it",
                field.name,
                write.mode.as_str()
            ))
            .hint("add the column to the source, or use mode `fill-missing`"));
        }
        let what = match field.fill {
            Fill::Default => "gets its default",
            _ => "stays NULL",
        };
        notes.push(format!("the table's column `{}` {what} in the new rows", field.name));
    }
    Ok(())
}

fn names(fields: &[FieldType]) -> String {
    let list: Vec<_> = fields.iter().take(20).map(|f| format!("`{}`", f.name)).collect();
    let more = fields.len().saturating_sub(20);
    match more {
        0 => list.join(", "),
        n => format!("{} and {n} more", list.join(", ")),
    }
}
