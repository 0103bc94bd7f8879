//! A Delta table's columns in our types, and the tables that must not be touched.

use std::collections::HashMap;

use retrofill_core::columns::{Column, ColumnType, Columns, Precision, Role};
use retrofill_core::connector::FieldType;
use retrofill_core::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Writer features that change nothing for a writer that only adds files, as long as no column
/// and no property uses them; those are checked by name.
const HARMLESS: [&str; 9] = [
    "appendOnly",
    "invariants",
    "checkConstraints",
    "changeDataFeed",
    "generatedColumns",
    "identityColumns",
    "columnMapping",
    "timestampNtz",
    "vacuumProtocolCheck",
];

/// Column properties that make a writer's task more than storing the value.
const COLUMN_RULES: [(&str, &str); 4] = [
    ("delta.generationExpression", "is a generated column"),
    ("delta.identity.start", "is an identity column"),
    ("delta.invariants", "has an invariant"),
    ("CURRENT_DEFAULT", "has a default"),
];

/// The `protocol` action.
#[derive(Debug, Clone, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Protocol {
    pub(super) min_reader_version: i32,
    pub(super) min_writer_version: i32,
    pub(super) reader_features: Option<Vec<String>>,
    pub(super) writer_features: Option<Vec<String>>,
}

/// The `metaData` action, as far as it matters here.
#[derive(Debug, Clone, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub(super) id: String,
    pub(super) schema_string: String,
    pub(super) partition_columns: Vec<String>,
    pub(super) configuration: HashMap<String, Option<String>>,
}

impl Metadata {
    /// Whether files may only be added.
    pub(super) fn is_append_only(&self) -> bool {
        self.configuration.get("delta.appendOnly").and_then(Option::as_deref) == Some("true")
    }
}

#[derive(Deserialize)]
struct Struct {
    fields: Vec<StructField>,
}

#[derive(Deserialize)]
struct StructField {
    name: String,
    #[serde(rename = "type")]
    ty: Value,
    nullable: bool,
    #[serde(default)]
    metadata: HashMap<String, Value>,
}

/// The table's columns, or an error of kind `Config` where retrofill must keep its hands off.
pub(super) fn fields(protocol: &Protocol, metadata: &Metadata) -> Result<Vec<FieldType>> {
    check_protocol(protocol)?;
    check_properties(metadata)?;
    let parsed: Struct = serde_json::from_str(&metadata.schema_string)
        .map_err(|e| Error::config("the table's schema cannot be read").because(e))?;
    parsed.fields.iter().map(field).collect()
}

fn refused(what: impl std::fmt::Display) -> Error {
    Error::config(format!("the table {what}; retrofill does not load such tables"))
        .hint("load into a plain table and move the rows with the engine that owns this one")
}

fn check_protocol(protocol: &Protocol) -> Result<()> {
    if protocol.min_reader_version > 3 || protocol.min_writer_version > 7 {
        return Err(refused(format!(
            "needs Delta protocol {}/{}",
            protocol.min_reader_version, protocol.min_writer_version
        )));
    }
    let features = protocol.reader_features.iter().chain(&protocol.writer_features).flatten();
    match features.into_iter().find(|f| !HARMLESS.contains(&f.as_str())) {
        Some(feature) => Err(refused(format!("uses the feature `{feature}`"))),
        None => Ok(()),
    }
}

fn check_properties(metadata: &Metadata) -> Result<()> {
    let get = |key: &str| metadata.configuration.get(key).and_then(Option::as_deref);
    let is_on = |key: &str| get(key).is_some_and(|v| v.eq_ignore_ascii_case("true"));
    if is_on("delta.enableChangeDataFeed") {
        return Err(refused("has a change data feed"));
    }
    if is_on("delta.enableDeletionVectors") {
        return Err(refused("uses deletion vectors"));
    }
    if get("delta.columnMapping.mode").is_some_and(|m| m != "none") {
        return Err(refused("uses column mapping"));
    }
    if get("delta.setTransactionRetentionDuration").is_some() {
        return Err(refused("forgets transactions (`delta.setTransactionRetentionDuration`)")
            .hint("unset the property: receipts are bound to these transactions"));
    }
    let constraint =
        metadata.configuration.keys().find_map(|k| k.strip_prefix("delta.constraints."));
    if let Some(name) = constraint {
        return Err(refused(format!("has the check constraint `{name}`")));
    }
    if !metadata.partition_columns.is_empty() {
        let list = metadata.partition_columns.join(", ");
        return Err(refused(format!("is partitioned by {list}")));
    }
    Ok(())
}

fn field(field: &StructField) -> Result<FieldType> {
    if let Some((_, what)) = COLUMN_RULES.iter().find(|(k, _)| field.metadata.contains_key(*k)) {
        return Err(refused(format!("has a column `{}` that {what}", field.name)));
    }
    let ty = field.ty.as_str().and_then(column_type).ok_or_else(|| {
        let name = match &field.ty {
            Value::String(text) => text.as_str(),
            other => other.get("type").and_then(Value::as_str).unwrap_or("unknown"),
        };
        refused(format!("has a column `{}` of type {name}", field.name))
    })?;
    Ok(FieldType::new(field.name.clone(), ty, field.nullable))
}

fn column_type(name: &str) -> Option<ColumnType> {
    Some(match name {
        "boolean" => ColumnType::Bool,
        "byte" => ColumnType::Integer { bits: 8 },
        "short" => ColumnType::Integer { bits: 16 },
        "integer" => ColumnType::Integer { bits: 32 },
        "long" => ColumnType::Integer { bits: 64 },
        "float" => ColumnType::Float { bits: 32 },
        "double" => ColumnType::Float { bits: 64 },
        "string" => ColumnType::Text,
        "binary" => ColumnType::Bytes,
        "date" => ColumnType::Date,
        "timestamp" => ColumnType::Instant { unit: Precision::Microsecond },
        decimal => {
            let inner = decimal.strip_prefix("decimal(")?.strip_suffix(')')?;
            let (precision, scale) = inner.split_once(',')?;
            ColumnType::Decimal {
                precision: precision.trim().parse().ok()?,
                scale: scale.trim().parse().ok()?,
            }
        }
    })
}

fn type_name(ty: ColumnType) -> String {
    match ty {
        ColumnType::Bool => "boolean".into(),
        ColumnType::Integer { bits: 8 } => "byte".into(),
        ColumnType::Integer { bits: 16 } => "short".into(),
        ColumnType::Integer { bits: 32 } => "integer".into(),
        ColumnType::Integer { .. } => "long".into(),
        ColumnType::Float { bits: 32 } => "float".into(),
        ColumnType::Float { .. } => "double".into(),
        ColumnType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        ColumnType::Text => "string".into(),
        ColumnType::Bytes => "binary".into(),
        ColumnType::Date => "date".into(),
        ColumnType::Instant { .. } => "timestamp".into(),
        other => other.common_name().into(),
    }
}

/// The type in which Delta keeps a column of this type.
pub(super) fn keeps(ty: ColumnType) -> Result<ColumnType> {
    match ty {
        ColumnType::Instant { unit: Precision::Nanosecond } => Err(Error::config(
            "Delta keeps times to the microsecond; the nanoseconds would be lost",
        )
        .hint("floor the times to microseconds first, or choose a target that keeps them")),
        ColumnType::Instant { .. } => Ok(ColumnType::Instant { unit: Precision::Microsecond }),
        ColumnType::Decimal { precision, scale }
            if scale < 0 || scale.unsigned_abs() > precision || precision > 38 =>
        {
            Err(Error::config(format!(
                "Delta has no decimal of {precision} digits with {scale} after the point"
            ))
            .hint("at most 38 digits, with 0 up to all of them after the point"))
        }
        ColumnType::Integer { bits: 8 | 16 | 32 | 64 } | ColumnType::Float { bits: 32 | 64 } => {
            Ok(ty)
        }
        ColumnType::Integer { bits } | ColumnType::Float { bits } => {
            Err(Error::config(format!("Delta has no numbers of {bits} bits")))
        }
        // Kept as their text; the source gives it.
        ColumnType::Time | ColumnType::Uuid | ColumnType::Json => Ok(ColumnType::Text),
        ColumnType::Array { .. } => {
            Err(Error::config("Delta tables with lists are not written by this version")
                .hint("leave the column out, or let the source give it as text"))
        }
        _ => Ok(ty),
    }
}

/// The `schemaString` of a new table: the source's order, the names as they are.
pub(super) fn new_schema(columns: &Columns) -> Result<String> {
    let mut list: Vec<&Column> = columns.iter().collect();
    list.sort_by_key(|c| c.position);
    let mut seen = HashMap::new();
    for column in &list {
        if let Some(other) = seen.insert(column.name.to_lowercase(), &column.name) {
            return Err(Error::config(format!(
                "columns `{other}` and `{}` differ only in case, which Delta does not tell apart",
                column.name
            )));
        }
    }
    let fields: Result<Vec<Value>> = list
        .iter()
        .map(|c| {
            let ty = keeps(c.ty).map_err(|e| e.at(format!("column `{}`", c.name)))?;
            Ok(json!({
                "name": c.name, "type": type_name(ty), "nullable": true, "metadata": {},
            }))
        })
        .collect();
    Ok(json!({ "type": "struct", "fields": fields? }).to_string())
}

/// The plan's columns, and behind them the table's others as values.
pub(super) fn whole(columns: &Columns, table: &[FieldType]) -> Result<Columns> {
    let others = table.iter().filter(|f| columns.iter().all(|c| c.name != f.name));
    let others = others.enumerate().map(|(at, field)| Column {
        name: field.name.clone(),
        ty: field.ty,
        role: Role::Value,
        position: (columns.len() + at) as u32,
        source: None,
    });
    Columns::new(columns.iter().cloned().chain(others).collect())
}

/// Checks that rows of the plan can be stored in the table as it is.
pub(super) fn check_fit(columns: &Columns, table: &[FieldType]) -> Result<()> {
    for column in columns {
        let Some(there) = table.iter().find(|f| f.name == column.name) else {
            return Err(Error::config(format!("the table has no column `{}`", column.name))
                .hint("columns are never added; leave it out of the plan or add it to the table"));
        };
        if there.ty != column.ty {
            return Err(Error::config(format!(
                "column `{}` is {} in the table but {} in the plan",
                column.name,
                type_name(there.ty),
                plan_type(column.ty)
            ))
            .hint("plan again: the table's types win"));
        }
    }
    let missing = |f: &&FieldType| !f.nullable && columns.iter().all(|c| c.name != f.name);
    if let Some(field) = table.iter().find(missing) {
        return Err(Error::config(format!(
            "column `{}` of the table must not be NULL, but the plan does not fill it",
            field.name
        )));
    }
    Ok(())
}

fn plan_type(ty: ColumnType) -> String {
    match ty {
        ColumnType::Instant { unit } => format!("a timestamp in {unit:?}s").to_lowercase(),
        other => type_name(other),
    }
}

#[cfg(test)]
mod tests {
    use retrofill_core::columns::Role;
    use retrofill_core::error::Kind;

    use super::*;

    const MICRO: ColumnType = ColumnType::Instant { unit: Precision::Microsecond };

    fn column(name: &str, role: Role, ty: ColumnType, position: u32) -> Column {
        Column { name: name.into(), ty, role, position, source: None }
    }

    fn table(schema: &str) -> (Protocol, Metadata) {
        let protocol =
            Protocol { min_reader_version: 1, min_writer_version: 2, ..Protocol::default() };
        (protocol, Metadata { schema_string: schema.into(), ..Metadata::default() })
    }

    #[test]
    fn every_type_round_trips() {
        let types = [
            ColumnType::Bool,
            ColumnType::Integer { bits: 8 },
            ColumnType::Integer { bits: 16 },
            ColumnType::Integer { bits: 32 },
            ColumnType::Integer { bits: 64 },
            ColumnType::Float { bits: 32 },
            ColumnType::Float { bits: 64 },
            ColumnType::Decimal { precision: 38, scale: 9 },
            ColumnType::Text,
            ColumnType::Bytes,
            ColumnType::Date,
        ];
        let mut list = vec![column("t", Role::Time, MICRO, 99)];
        for (i, ty) in types.into_iter().enumerate() {
            list.push(column(&format!("c{i}"), Role::Value, ty, i as u32));
        }
        let columns = Columns::new(list).unwrap();
        let (protocol, metadata) = table(&new_schema(&columns).unwrap());
        let fields = fields(&protocol, &metadata).unwrap();
        assert_eq!(fields.last().unwrap().name, "t", "the source's order is kept");
        check_fit(&columns, &fields).unwrap();
    }

    #[test]
    fn nanoseconds_are_not_cut_silently() {
        let error = keeps(ColumnType::Instant { unit: Precision::Nanosecond }).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        let second = ColumnType::Instant { unit: Precision::Second };
        assert_eq!(keeps(second).unwrap(), MICRO);
    }

    #[test]
    fn names_that_differ_in_case_only_are_refused() {
        let columns = Columns::new(vec![
            column("t", Role::Time, MICRO, 0),
            column("T", Role::Value, ColumnType::Text, 1),
        ])
        .unwrap();
        assert!(new_schema(&columns).unwrap_err().message().contains("differ only in case"));
    }

    #[test]
    fn tables_with_rules_of_their_own_are_refused_by_name() {
        let plain = r#"{"type":"struct","fields":[
            {"name":"t","type":"timestamp","nullable":true,"metadata":{}}]}"#;
        let (protocol, metadata) = table(plain);
        fields(&protocol, &metadata).unwrap();
        let with = |key: &str, value: &str| {
            let mut metadata = metadata.clone();
            metadata.configuration.insert(key.into(), Some(value.into()));
            fields(&protocol, &metadata).map_err(|e| e.message().to_owned())
        };
        assert!(with("delta.appendOnly", "true").is_ok());
        assert!(with("delta.columnMapping.mode", "none").is_ok());
        for (key, value, word) in [
            ("delta.enableChangeDataFeed", "true", "change data feed"),
            ("delta.columnMapping.mode", "name", "column mapping"),
            ("delta.enableDeletionVectors", "true", "deletion vectors"),
            ("delta.constraints.positive", "v > 0", "`positive`"),
            ("delta.setTransactionRetentionDuration", "interval 1 day", "forgets"),
        ] {
            assert!(with(key, value).unwrap_err().contains(word), "{key}");
        }
        for rule in ["delta.generationExpression", "delta.identity.start", "delta.invariants"] {
            let text = plain.replace("{}}", &format!("{{\"{rule}\":\"x\"}}}}"));
            let (protocol, metadata) = table(&text);
            assert!(fields(&protocol, &metadata).unwrap_err().message().contains("`t`"), "{rule}");
        }
        for ty in ["\"timestamp_ntz\"", r#"{"type":"array","elementType":"long"}"#, "\"variant\""] {
            let (protocol, metadata) = table(&plain.replace("\"timestamp\"", ty));
            assert!(fields(&protocol, &metadata).unwrap_err().message().contains("`t`"), "{ty}");
        }
        let mut newer = protocol.clone();
        newer.writer_features = Some(vec!["appendOnly".into(), "rowTracking".into()]);
        assert!(fields(&newer, &metadata).unwrap_err().message().contains("`rowTracking`"));
        let mut metadata = metadata.clone();
        metadata.partition_columns.push("day".into());
        assert!(fields(&protocol, &metadata).unwrap_err().message().contains("partitioned by day"));
    }
}
