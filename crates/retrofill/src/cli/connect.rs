//! `retrofill check --connect`: what stands in the way of a run, at both ends.

use retrofill_core::error::{Error, Kind};
use retrofill_core::examine::{End, Remark, Verdict, Wanted};
use serde::Serialize;

use super::Context;
use super::exit::Exit;
use super::output::{Failure, Format};
use super::summary::count;
use crate::job::Job;

/// What was found at one end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Looked {
    /// `source` or `target`.
    end: &'static str,
    /// Which one it is.
    label: String,
    remarks: Vec<Remark>,
}

/// What `check --connect` says to machines.
#[derive(Debug, Serialize)]
struct Checked<'a> {
    v: u8,
    name: &'a str,
    problems: [(); 0],
    ends: &'a [Looked],
    exit: u8,
}

/// Opens both ends, looks at them and changes nothing.
pub(super) async fn execute(ctx: &Context, job: &Job) -> Result<Exit, Failure> {
    let wanted = |end| Wanted {
        end,
        rows: job.spec.rows.clone(),
        write: job.spec.write.clone(),
        after: job.after.clone(),
        reads: Vec::new(),
    };
    let source = match job.source() {
        Ok(source) => source.examine(&wanted(End::Source)).await,
        Err(e) => Err(e),
    };
    let target = match job.target() {
        Ok(target) => target.examine(&wanted(End::Target)).await,
        Err(e) => Err(e),
    };
    let mut exit = Exit::Done;
    let ends =
        [("source", &job.spec.source.label, source), ("target", &job.spec.target.label, target)]
            .map(|(end, label, found)| {
                let (remarks, code) = judged(found);
                exit = exit.and(code);
                Looked { end, label: label.clone(), remarks }
            });
    match ctx.output.format {
        Format::Json => {
            let name = &job.spec.name;
            ctx.output.json(&Checked { v: 1, name, problems: [], ends: &ends, exit: exit.code() });
        }
        Format::Text => ctx.output.result(&text(&job.spec.name, &ends, exit)),
    }
    Ok(exit)
}

/// An end that cannot be looked at is a finding too. A server that is away for now does not make
/// the job wrong: a later try may help.
fn judged(found: Result<Vec<Remark>, Error>) -> (Vec<Remark>, Exit) {
    match found {
        Ok(remarks) => {
            let wrong = remarks.iter().any(|r| r.verdict == Verdict::Error);
            (remarks, if wrong { Exit::Config } else { Exit::Done })
        }
        Err(e) => {
            let exit = match e.kind() {
                Kind::Unavailable | Kind::Overloaded => Exit::Failed,
                _ => Exit::Config,
            };
            let remark = Remark::error("connection", e.to_string());
            let hint = e.hint_text().map(str::to_owned);
            (vec![Remark { hint, ..remark }], exit)
        }
    }
}

fn text(name: &str, ends: &[Looked], exit: Exit) -> String {
    let mut out = vec![format!("{name}: the spec is sound")];
    let mut counts = [0_u64; 3];
    for end in ends {
        out.push(format!("{}: {}", end.end, end.label));
        for remark in &end.remarks {
            counts[remark.verdict as usize] += 1;
            let word = match remark.verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "warning",
                Verdict::Error => "error",
            };
            out.push(format!("  {word:<8} {:<16} {}", remark.what, remark.found));
            let hint = remark.hint.iter().flat_map(|h| h.lines());
            out.extend(hint.map(|line| format!("{:28}{line}", "")));
        }
    }
    out.push(format!("{}, {}", count(counts[2], "error"), count(counts[1], "warning")));
    out.push(match exit {
        Exit::Done => "Next: retrofill plan | run".into(),
        _ => "Next: mend what is an error, then retrofill check --connect".to_owned(),
    });
    out.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_decide_the_exit_code() {
        let ok = Remark::ok("table", "it is there");
        let warning = Remark::warning("fsync", "it is off").hint("ALTER SYSTEM SET fsync = on");
        let error = Remark::error("rights", "no INSERT").hint("GRANT INSERT ON t TO r;\nGRANT ...");
        let exit = |found| judged(found).1;
        assert_eq!(exit(Ok(vec![ok.clone(), warning.clone()])), Exit::Done);
        assert_eq!(exit(Ok(vec![ok.clone(), error.clone()])), Exit::Config);
        assert_eq!(exit(Err(Error::unavailable("gone"))), Exit::Failed);
        assert_eq!(exit(Err(Error::config("no such user"))), Exit::Config);
        let ends = [Looked {
            end: "target",
            label: "PostgreSQL db/m public.r".into(),
            remarks: vec![ok, warning, error],
        }];
        insta::assert_snapshot!(text("meters", &ends, Exit::Config));
    }
}
