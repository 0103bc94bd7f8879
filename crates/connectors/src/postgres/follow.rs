//! What follows loads: views computed anew, statements of the user's.

use retrofill_core::after::{After, SqlPart};
use retrofill_core::error::{Error, Result};
use retrofill_core::interval::Interval;
use tokio_postgres::types::{ToSql, Type};

use super::connect::Server;
use super::session;
use super::sql::{TableName, literal};

/// Does the action; for this stretch of time where it is done by stretches.
pub(super) async fn follow(
    server: &Server,
    action: &After,
    loaded: Option<&Interval>,
) -> Result<()> {
    let client = server.fresh().await?;
    let what = format!("`{action}` failed in {}", server.label());
    let failed = |e: tokio_postgres::Error| server.fault(&e, &what);
    // A bound means the same whatever the session's zone, also against a column without one.
    client.batch_execute("SET TimeZone = 'UTC'").await.map_err(failed)?;
    match action {
        After::RefreshMaterializedView(name) => {
            let view = TableName::parse(name)?;
            let rows = session::ask(&client, &look(&view)?).await.map_err(failed)?;
            let sql = refresh(&view, rows.first().and_then(|rows| rows.first()))?;
            client.batch_execute(&sql).await.map_err(failed)
        }
        After::Sql(parts) => {
            let (sql, bound) = text(parts);
            if !bound {
                return client.batch_execute(&sql).await.map_err(failed);
            }
            let interval = loaded.ok_or_else(|| {
                Error::bug("a statement with bounds was given no stretch of time")
            })?;
            let ends = [interval.start(), interval.end()].map(std::time::SystemTime::from);
            let values: Vec<(&(dyn ToSql + Sync), Type)> =
                ends.iter().map(|t| (t as &(dyn ToSql + Sync), Type::TIMESTAMPTZ)).collect();
            client.query_typed(&sql, &values).await.map(drop).map_err(failed)
        }
    }
}

/// The statement, and whether it has bounds. Both are always typed: one may be used nowhere.
fn text(parts: &[SqlPart]) -> (String, bool) {
    let (mut sql, mut bound) = (String::new(), false);
    for part in parts {
        match part {
            SqlPart::Text(text) => sql.push_str(text),
            SqlPart::From => sql.push_str("$1"),
            SqlPart::To => sql.push_str("$2"),
        }
        bound |= !matches!(part, SqlPart::Text(_));
    }
    (sql, bound)
}

/// Kind of the relation, whether it holds anything, whether a unique index covers all its rows.
fn look(view: &TableName) -> Result<String> {
    Ok(format!(
        "SELECT c.relkind, c.relispopulated, EXISTS (SELECT FROM pg_catalog.pg_index i \
         WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL \
         AND i.indexprs IS NULL) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace \
         WHERE s.nspname = {} AND c.relname = {}",
        literal(&view.schema)?,
        literal(&view.name)?
    ))
}

/// Readers of the view are held up only where there is no other way.
fn refresh(view: &TableName, facts: Option<&session::Texts>) -> Result<String> {
    let fact = |at: usize| facts.and_then(|row| row.get(at)).and_then(Option::as_deref);
    if fact(0) != Some("m") {
        return Err(Error::config(format!("there is no materialized view {view}"))
            .hint("`schema.view`; without a schema one of `public`"));
    }
    let beside = fact(1) == Some("t") && fact(2) == Some("t");
    let word = if beside { " CONCURRENTLY" } else { "" };
    Ok(format!("REFRESH MATERIALIZED VIEW{word} {}", view.sql()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_become_parameters() {
        let part = |t: &str| SqlPart::Text(t.into());
        let parts = [part("CALL f("), SqlPart::From, part(", "), SqlPart::To, part(")")];
        assert_eq!(text(&parts), ("CALL f($1, $2)".to_owned(), true));
        assert_eq!(text(&parts[..1]), ("CALL f(".to_owned(), false));
    }

    #[test]
    fn readers_are_not_held_up_where_that_can_be() {
        let view = TableName::parse("v").unwrap();
        let sql = |facts: [&str; 3]| {
            let row = facts.map(|f| Some(f.to_owned())).to_vec();
            refresh(&view, Some(&row)).map(|sql| sql.contains("CONCURRENTLY"))
        };
        assert!(sql(["m", "t", "t"]).unwrap());
        assert!(!sql(["m", "f", "t"]).unwrap() && !sql(["m", "t", "f"]).unwrap());
        assert!(sql(["v", "t", "t"]).is_err());
        assert!(refresh(&view, None).is_err());
    }
}
