//! What the server's catalog says about a table.

use retrofill_core::columns::ColumnType;
use retrofill_core::connector::{FieldType, Fill};
use retrofill_core::error::{Error, Result};
use serde::Deserialize;

use super::kind::{Base, Kind};
use super::sql::{TableName, ident, literal};

/// A table as it is.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Table {
    pub(super) oid: u32,
    /// `r`: a table, `p`: one with partitions; everything else is refused.
    kind: String,
    /// `p`: permanent, `u`: unlogged, `t`: temporary.
    pub(super) persistence: String,
    /// Row-level security hides rows from this user.
    pub(super) hides_rows: bool,
    /// Other tables inherit from it.
    pub(super) inherited: bool,
    /// Changes whenever columns do.
    pub(super) definition: String,
    /// The columns in the table's order.
    pub(super) columns: Vec<TableColumn>,
    pub(super) indexes: Vec<Index>,
    pub(super) triggers: Vec<Trigger>,
    pub(super) rules: Vec<Rule>,
    /// Of its partitions, or of those that inherit from it, the ones that are not like it.
    parts: Vec<Part>,
    /// The columns by whose ranges rows find their partition.
    pub(super) partitioned_by: Option<Vec<String>>,
    /// Foreign keys of others that point here, or at a partition.
    pub(super) referrers: Vec<String>,
}

/// A partition that is foreign, or not permanent.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Part {
    pub(super) name: String,
    kind: String,
    persistence: String,
}

/// A rewrite rule.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Rule {
    pub(super) name: String,
    on: On,
}

/// The statement that a rule rewrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum On {
    #[serde(rename = "2")]
    Update,
    #[serde(rename = "3")]
    Insert,
    #[serde(rename = "4")]
    Delete,
}

/// A column.
#[derive(Debug, Clone, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the catalog's answer, as it comes")]
pub(super) struct TableColumn {
    pub(super) name: String,
    /// No other column of the table ever has it.
    pub(super) number: i16,
    /// As SQL names its type.
    pub(super) type_name: String,
    /// Name and modifier of the type below domains and brackets.
    base: String,
    modifier: i32,
    builtin: bool,
    labels: Option<Vec<String>>,
    element: Option<u32>,
    pub(super) not_null: bool,
    /// Has a default or an identity.
    pub(super) filled: bool,
    /// Is computed; nobody writes it.
    pub(super) generated: bool,
    /// Is an integer that a sequence gives where nobody else does.
    pub(super) counted: bool,
    /// Texts that differ can be equal.
    folds: bool,
}

/// An index that is valid.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Index {
    pub(super) name: String,
    /// Holds for every row, at once.
    pub(super) unique: bool,
    /// The columns in order; none for an expression, or where texts that differ count as equal.
    pub(super) columns: Vec<Option<String>>,
    pub(super) partial: bool,
}

/// A trigger that is on, of the table or of a partition.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Trigger {
    pub(super) name: String,
    bits: i32,
}

impl Trigger {
    /// Runs before the insert of a row, and can change it.
    pub(super) fn changes_rows(&self) -> bool {
        // ROW, BEFORE, INSERT.
        self.bits & 7 == 7
    }

    /// Runs before whatever it is on, or in its place.
    pub(super) fn comes_before(&self) -> bool {
        self.bits & (2 | 64) != 0
    }

    /// Runs after the insert of a row or of all, and can change other rows.
    pub(super) fn follows_rows(&self) -> bool {
        // Neither BEFORE nor INSTEAD, INSERT.
        self.bits & (2 | 4 | 64) == 4
    }
}

/// A recursive query `tree(oid)`: the table, its partitions, and all that inherit from it.
const TREE: &str = "RECURSIVE tree(oid) AS (SELECT c.oid FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
  WHERE s.nspname = {schema} AND c.relname = {name}
  UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree t ON i.inhparent = t.oid)";

/// A query whose one row has one column: the table as JSON; no row where there is none.
pub(super) fn query(table: &TableName) -> Result<String> {
    let (schema, name) = (literal(&table.schema)?, literal(&table.name)?);
    let tree = TREE.replace("{schema}", &schema).replace("{name}", &name);
    Ok(format!(
        "WITH {tree} SELECT pg_catalog.json_build_object(
  'oid', c.oid::pg_catalog.int8, 'kind', c.relkind, 'persistence', c.relpersistence,
  'hides_rows', pg_catalog.row_security_active(c.oid),
  'inherited', c.relkind = 'r' AND EXISTS (
    SELECT 1 FROM pg_catalog.pg_inherits WHERE inhparent = c.oid),
  'definition', {DEFINITION},
  'columns', (SELECT pg_catalog.json_agg({COLUMN} ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a
    CROSS JOIN LATERAL (
      WITH RECURSIVE chain(oid, mod, depth, nn) AS (
        SELECT a.atttypid, a.atttypmod, 0, false
        UNION ALL
        SELECT t.typbasetype, CASE WHEN t.typtypmod = -1 THEN chain.mod ELSE t.typtypmod END,
               chain.depth + 1, chain.nn OR t.typnotnull
        FROM chain JOIN pg_catalog.pg_type t ON t.oid = chain.oid WHERE t.typtype = 'd')
      SELECT * FROM chain ORDER BY depth DESC LIMIT 1) AS top
    JOIN pg_catalog.pg_type o ON o.oid = top.oid
    LEFT JOIN pg_catalog.pg_type i ON i.oid = o.typelem AND o.typcategory = 'A'
    LEFT JOIN pg_catalog.pg_type d ON d.oid = i.typbasetype AND i.typtype = 'd'
    JOIN pg_catalog.pg_type b ON b.oid = COALESCE(d.oid, i.oid, o.oid)
    LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'indexes', (SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', x.relname, 'unique', i.indisunique AND i.indimmediate,
      'partial', i.indpred IS NOT NULL,
      'columns', (SELECT pg_catalog.json_agg(CASE WHEN l.collisdeterministic IS NOT FALSE
          THEN k.attname END ORDER BY n.place)
        FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS n(num, place)
        LEFT JOIN pg_catalog.pg_attribute k ON k.attrelid = c.oid AND k.attnum = n.num
          AND n.num <> 0
        LEFT JOIN pg_catalog.pg_collation l
          ON l.oid = i.indcollation[n.place::pg_catalog.int4 - 1]
        WHERE n.place <= i.indnkeyatts)) ORDER BY x.relname), '[]')
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = c.oid AND i.indisvalid),
  'triggers', (SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', g.tgname, 'bits', g.tgtype) ORDER BY g.tgname), '[]')
    FROM pg_catalog.pg_trigger g
    WHERE g.tgrelid IN (SELECT oid FROM tree) AND (g.tgrelid = c.oid OR g.tgparentid = 0)
      AND NOT g.tgisinternal AND g.tgenabled <> 'D'),
  'rules', (SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', r.rulename, 'on', r.ev_type) ORDER BY r.rulename), '[]')
    FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type IN ('2', '3', '4')),
  'parts', (SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', pg_catalog.format('%I.%I', n.nspname, p.relname), 'kind', p.relkind,
      'persistence', p.relpersistence) ORDER BY p.oid), '[]')
    FROM tree JOIN pg_catalog.pg_class p ON p.oid = tree.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace
    WHERE p.oid <> c.oid AND (p.relkind = 'f' OR p.relpersistence <> 'p')),
  'partitioned_by', (SELECT pg_catalog.json_agg(k.attname ORDER BY n.place)
    FROM pg_catalog.pg_partitioned_table p
    CROSS JOIN pg_catalog.unnest(p.partattrs::pg_catalog.int2[]) WITH ORDINALITY AS n(num, place)
    JOIN pg_catalog.pg_attribute k ON k.attrelid = c.oid AND k.attnum = n.num
    WHERE p.partrelid = c.oid AND p.partstrat = 'r' AND p.partexprs IS NULL),
  'referrers', (SELECT COALESCE(pg_catalog.json_agg(f.conname ORDER BY f.conname), '[]')
    FROM pg_catalog.pg_constraint f WHERE f.confrelid IN (SELECT oid FROM tree)
      AND f.contype = 'f' AND (f.conparentid = 0 OR f.confrelid = c.oid))
) FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
WHERE s.nspname = {schema} AND c.relname = {name}"
    ))
}

const COLUMN: &str = "pg_catalog.json_build_object(
      'name', a.attname, 'number', a.attnum,
      'type_name', pg_catalog.format_type(a.atttypid, a.atttypmod),
      'base', b.typname, 'modifier', CASE WHEN d.oid IS NULL THEN top.mod ELSE i.typtypmod END,
      'builtin', b.typnamespace = 'pg_catalog'::pg_catalog.regnamespace,
      'labels', CASE WHEN b.typtype = 'e' THEN (
        SELECT pg_catalog.json_agg(e.enumlabel ORDER BY e.enumsortorder)
        FROM pg_catalog.pg_enum e WHERE e.enumtypid = b.oid) END,
      'element', CASE WHEN i.oid IS NOT NULL THEN i.oid::pg_catalog.int8 END,
      'not_null', a.attnotnull OR top.nn, 'filled', a.atthasdef OR a.attidentity <> '',
      'generated', a.attgenerated <> '',
      'counted', b.typname IN ('int2', 'int4', 'int8') AND i.oid IS NULL
        AND (a.attidentity <> '' OR EXISTS (SELECT 1 FROM pg_catalog.pg_attrdef f
          JOIN pg_catalog.pg_depend e ON e.objid = f.oid
            AND e.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
          JOIN pg_catalog.pg_class q ON q.oid = e.refobjid AND q.relkind = 'S'
            AND e.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
          WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum)),
      'folds', b.typname = 'citext' OR NOT COALESCE(l.collisdeterministic, true))";

/// What changes whenever columns do, for the table `c`.
const DEFINITION: &str = "(SELECT pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat_ws('/',
    attnum, attname, atttypid, atttypmod, attnotnull, attgenerated, atthasdef), ',' \
    ORDER BY attnum)) FROM pg_catalog.pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)";

/// A query for the table's object id, its definition, its file, and its name in the server's log.
pub(super) fn standing_query(table: &TableName) -> Result<String> {
    Ok(format!(
        "SELECT c.oid, {DEFINITION}, pg_catalog.pg_relation_filenode(c.oid) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace \
         WHERE s.nspname = {} AND c.relname = {}",
        literal(&table.schema)?,
        literal(&table.name)?
    ))
}

impl Table {
    /// Reads the answer to [`query`].
    pub(super) fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json)
            .map_err(|e| Error::bug("the catalog's answer cannot be read").because(e))
    }

    /// Whether it has partitions of its own.
    pub(super) fn is_partitioned(&self) -> bool {
        self.kind == "p"
    }

    /// An error of kind `Config` where it is nothing that rows are loaded into or read from.
    pub(super) fn check(&self, name: &TableName) -> Result<()> {
        let what = match self.kind.as_str() {
            "r" | "p" => return self.check_parts(name),
            "v" => "a view",
            "m" => "a materialized view",
            "f" => "a foreign table",
            _ => "no table",
        };
        Err(Error::config(format!("{name} is {what}")).hint("name a table"))
    }

    /// An error where rows lie on another server: they have no place by which to tell them apart,
    /// and no transaction of this one holds for them.
    fn check_parts(&self, name: &TableName) -> Result<()> {
        let Some(part) = self.parts.iter().find(|p| p.kind == "f") else { return Ok(()) };
        let what = format!("{} of {name} is a foreign table", part.name);
        Err(Error::config(what).hint("name a table whose rows all lie on this server"))
    }

    /// A partition that a crash of the server empties, or that goes with its session.
    pub(super) fn fleeting_part(&self) -> Option<&Part> {
        self.parts.iter().find(|p| p.persistence != "p")
    }

    /// The first rule on such statements.
    pub(super) fn rule(&self, on: On) -> Option<&Rule> {
        self.rules.iter().find(|r| r.on == on)
    }

    /// Whether a valid unique index sees to this key: one over some of its columns, for all rows.
    pub(super) fn has_unique(&self, key: &[&str]) -> bool {
        let part = |c: &Option<String>| c.as_deref().is_some_and(|c| key.contains(&c));
        self.indexes.iter().any(|i| i.unique && !i.partial && i.columns.iter().all(part))
    }

    /// Whether such an index is over exactly this key.
    pub(super) fn has_unique_of(&self, key: &[&str]) -> bool {
        let part = |c: &Option<String>| c.as_deref().is_some_and(|c| key.contains(&c));
        let all = |i: &Index| i.columns.len() == key.len() && i.columns.iter().all(part);
        self.indexes.iter().any(|i| i.unique && !i.partial && all(i))
    }

    /// Whether a unique index of this name is over something else than this key: a row that it
    /// refuses has met no row of its own key.
    pub(super) fn is_other_index(&self, name: &str, key: &[&str]) -> bool {
        let part = |c: &Option<String>| c.as_deref().is_some_and(|c| key.contains(&c));
        let index = self.indexes.iter().find(|i| i.name == name);
        index.is_some_and(|i| i.columns.len() != key.len() || !i.columns.iter().all(part))
    }

    /// The column of this name.
    pub(super) fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The columns for the seam. One whose type is not kept exactly counts as text: it is refused
    /// by name as soon as it is used.
    pub(super) fn fields(&self) -> Vec<FieldType> {
        let field = |c: &TableColumn| {
            let ty = c.kind().map_or(ColumnType::Text, |k| k.column_type());
            let fill = match (c.generated, c.filled) {
                (true, _) => Fill::Computed,
                (false, true) => Fill::Default,
                (false, false) => Fill::Nothing,
            };
            let nullable = !c.not_null || fill != Fill::Nothing;
            FieldType { fill, ..FieldType::new(c.name.clone(), ty, nullable) }
        };
        self.columns.iter().map(field).collect()
    }

    /// The same for somebody who only reads: whatever has no exact counterpart is had as text.
    pub(super) fn read_fields(&self) -> Vec<FieldType> {
        let field = |c: &TableColumn| {
            let ty = c.read_kind().map_or(ColumnType::Text, |k| k.column_type());
            FieldType::new(c.name.clone(), ty, !c.not_null)
        };
        self.columns.iter().map(field).collect()
    }
}

impl TableColumn {
    /// How its values travel; an error of kind `Config` where they are not kept exactly.
    pub(super) fn kind(&self) -> Result<Kind> {
        let known = self.builtin || self.labels.is_some() || self.base == "citext";
        let base = Kind::base(&self.base, self.modifier, self.labels.clone());
        let base = base.filter(|_| known).ok_or_else(|| {
            Error::config(format!(
                "column `{}` is of type {}, which is not kept exactly",
                self.name, self.type_name
            ))
            .hint("leave the column out, or change its type")
        })?;
        Ok(Kind { base, element: self.element })
    }

    /// How its values travel to somebody who only reads them: how a type rounds what is written
    /// does not matter. None where they can only be had as text.
    pub(super) fn read_kind(&self) -> Option<Kind> {
        if let Ok(kind) = self.kind() {
            return Some(kind);
        }
        let rounds = ["timestamp", "timestamptz", "time", "numeric"].contains(&self.base.as_str());
        let base = Kind::base(&self.base, -1, None).filter(|_| self.builtin && rounds)?;
        Some(Kind { base, element: self.element })
    }

    /// Its values, as text where they cannot be had otherwise.
    pub(super) fn read_sql(&self) -> Result<String> {
        let name = ident(&self.name)?;
        let text = self.read_kind().is_none();
        Ok(if text { format!("{name}::pg_catalog.text") } else { name })
    }

    /// Something the server can hash that differs wherever values do.
    pub(super) fn hashed_sql(&self) -> Result<String> {
        let name = ident(&self.name)?;
        Ok(if self.folds {
            format!("{name}::pg_catalog.text COLLATE pg_catalog.\"C\"")
        } else if self.read_kind().is_none_or(|k| k.base == Base::Json) {
            format!("{name}::pg_catalog.text")
        } else {
            name
        })
    }

    /// Whether rows with equal keys by the server are those with equal keys by us.
    pub(super) fn can_be_key(&self) -> bool {
        !self.folds && self.kind().is_ok_and(|k| k.can_be_key())
    }
}
