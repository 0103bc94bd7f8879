//! What the target does once slices are loaded. It decides nothing about rows, so it is no part
//! of core's spec.

use retrofill_core::after::{After, SqlPart};

use super::problem::Problem;
use super::raw::RawAfter;
use super::read::Field;
use super::tree::Mark;

/// The actions, in their order. `target` is the connector's key, where that is known.
pub(super) fn after(
    field: &Field<Vec<RawAfter>>,
    target: Option<&str>,
    problems: &mut Vec<Problem>,
) -> Vec<After> {
    let list = field.get().map_or(&[][..], Vec::as_slice);
    if let Some(other) = target.filter(|t| *t != "postgres" && !list.is_empty()) {
        let message = format!("`after` needs a target that speaks SQL; `{other}` does not");
        problems.push(Problem::at(field.mark, message).hint("targets that do: postgres"));
    }
    list.iter().filter_map(|raw| action(raw, field.mark, problems)).collect()
}

fn action(raw: &RawAfter, mark: Mark, problems: &mut Vec<Problem>) -> Option<After> {
    let (view, sql) = (&raw.refresh_materialized_view, &raw.sql);
    if view.is_absent() == sql.is_absent() {
        let message = if sql.is_absent() {
            "an entry of `after` does nothing"
        } else {
            "an entry of `after` does two things"
        };
        let mark = sql.key.unwrap_or(Mark { length: 1, ..mark });
        let hint = "each entry has either `refresh_materialized_view` or `sql`";
        problems.push(Problem::at(mark, message).hint(hint));
        return None;
    }
    if let Some(name) = view.get() {
        if name.is_empty() || name.contains('\0') {
            problems.push(Problem::at(view.mark, "a materialized view needs a name"));
            return None;
        }
        return Some(After::RefreshMaterializedView(name.clone()));
    }
    let text = sql.get()?;
    let cut = cut(text);
    let problem = if text.trim().is_empty() {
        "`after.sql` is empty"
    } else if text.contains('\0') {
        "`after.sql` holds a NUL"
    } else if cut.statements > 1 && cut.parts.len() > 1 {
        "`after.sql` uses `:from` or `:to` in more than one statement"
    } else {
        return Some(After::Sql(cut.parts));
    };
    let hint = "one statement for each entry; entries are done in their order";
    problems.push(Problem::at(sql.mark, problem).hint(hint));
    None
}

/// A text of SQL, cut at `:from` and `:to`.
struct Cut {
    parts: Vec<SqlPart>,
    statements: usize,
}

/// Finds the places where they stand as SQL: not in a text, a name or a comment.
fn cut(sql: &str) -> Cut {
    let mut cut = Cut { parts: Vec::new(), statements: 0 };
    let (mut text, mut rest, mut open) = (String::new(), sql, false);
    while let Some(c) = rest.chars().next() {
        let found = [(":from", SqlPart::From), (":to", SqlPart::To)];
        let here = found.into_iter().find(|(word, _)| {
            rest.strip_prefix(word).is_some_and(|after| !after.starts_with(is_name))
                && !text.ends_with(':')
        });
        let length = match here {
            Some((word, part)) => {
                cut.parts.push(SqlPart::Text(std::mem::take(&mut text)));
                cut.parts.push(part);
                rest = &rest[word.len()..];
                open = true;
                continue;
            }
            None => quoted(rest).unwrap_or(c.len_utf8()),
        };
        let comment = rest.starts_with("--") || rest.starts_with("/*");
        if c == ';' {
            cut.statements += usize::from(open);
            open = false;
        } else if !c.is_whitespace() && !comment {
            open = true;
        }
        text.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    cut.statements += usize::from(open);
    cut.parts.push(SqlPart::Text(text));
    cut.parts.retain(|part| *part != SqlPart::Text(String::new()));
    cut
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the text, name or comment that begins here; to the end where it is not closed.
fn quoted(rest: &str) -> Option<usize> {
    let until = |open: usize, close: &str| {
        rest[open..].find(close).map_or(rest.len(), |at| open + at + close.len())
    };
    if rest.starts_with(['E', 'e']) && rest[1..].starts_with('\'') {
        let mut escaped = false;
        let end = rest[2..].find(|c: char| {
            let closes = c == '\'' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        return Some(end.map_or(rest.len(), |at| at + 3));
    }
    match rest.chars().next()? {
        // A doubled quote ends one text and begins another: the same for us.
        '\'' => Some(until(1, "'")),
        '"' => Some(until(1, "\"")),
        '-' if rest.starts_with("--") => Some(until(2, "\n")),
        '/' if rest.starts_with("/*") => Some(comment(rest)),
        '$' => {
            let tag = rest[1..].find(|c: char| !is_name(c)).map(|at| &rest[..at + 2])?;
            let digit = tag[1..].starts_with(|c: char| c.is_ascii_digit());
            (tag.ends_with('$') && !digit).then(|| until(tag.len(), tag))
        }
        // So that a name such as `date'` does not look like an escaped text.
        c if is_name(c) => rest.find(|c: char| !is_name(c)).or(Some(rest.len())),
        _ => None,
    }
}

/// The length of a comment, which may hold others.
fn comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(found) = rest[at..].find(['/', '*']) {
        at += found;
        if rest[at..].starts_with("/*") {
            depth += 1;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
        } else {
            at += 1;
            continue;
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `<` for the start, `>` for the end, and how many statements there are.
    fn shown(sql: &str) -> (String, usize) {
        let cut = cut(sql);
        let part = |part: &SqlPart| match part {
            SqlPart::Text(text) => text.clone(),
            SqlPart::From => "<".into(),
            SqlPart::To => ">".into(),
        };
        (cut.parts.iter().map(part).collect(), cut.statements)
    }

    #[test]
    fn placeholders_are_found_where_they_are_sql() {
        for (sql, expected) in [
            ("CALL f(:from, :to)", "CALL f(<, >)"),
            (":from", "<"),
            ("SELECT ':from', \":to\", :to", "SELECT ':from', \":to\", >"),
            ("SELECT 'it''s :from' || :from", "SELECT 'it''s :from' || <"),
            ("SELECT E'\\':from' , :to", "SELECT E'\\':from' , >"),
            ("SELECT x::from, a:total, :to_x", "SELECT x::from, a:total, :to_x"),
            (
                "-- :from\nSELECT :from /* :to /* :to */ :to */, :to",
                "-- :from\nSELECT < /* :to /* :to */ :to */, >",
            ),
            (
                "SELECT $$:from$$, $a$ :to $$ $a$, $1, :to",
                "SELECT $$:from$$, $a$ :to $$ $a$, $1, >",
            ),
            ("SELECT date':from', ä':to'", "SELECT date':from', ä':to'"),
            ("SELECT 'open :from", "SELECT 'open :from"),
        ] {
            assert_eq!(shown(sql), (expected.to_owned(), 1), "{sql}");
        }
    }

    #[test]
    fn statements_are_counted() {
        for (sql, count) in
            [("", 0), (" ; ", 0), ("a;", 1), ("a; -- b", 1), ("a; b", 2), ("a';'; /* b */", 1)]
        {
            assert_eq!(shown(sql).1, count, "{sql}");
        }
    }
}
