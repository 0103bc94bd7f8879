//! How the source spells its times, found from the first of them.

use retrofill_core::error::{Error, Result};

use super::Shared;
use super::chunks::Chunk;
use super::columns::{SurveyedFile, chunks};
use super::header::Order;
use super::iso::is_compact_date;
use super::records::Records;
use super::sample::Sample;
use super::time::Form;

/// Values of the time column that its form is guessed from.
const GUESS_FROM: usize = 1000;

/// What the user should know of a form.
pub(super) fn note(shared: &Shared, form: Form) -> Option<String> {
    let zone = &shared.settings.timezone;
    match form {
        Form::Zoned | Form::Custom => None,
        Form::Local => Some(format!("times have no zone and are read as {zone}")),
        Form::Epoch(_) => Some(format!("times are {}", form.name())),
    }
}

/// The form of the times, from the first values there are; none where there is no value at all.
pub(super) fn find_form(
    shared: &Shared,
    files: &[SurveyedFile],
    name: &str,
    time: usize,
    sample: Option<&Sample>,
) -> Result<Option<Form>> {
    for file in files {
        let path = &file.stamp.path;
        let of = |values: &[Vec<u8>]| form_of(shared, path, name, values);
        if let Some(part) = file.order.part(time) {
            let Some(value) = part else { continue };
            return of(&[value.as_bytes().to_vec()]).map(Some);
        }
        for chunk in chunks(shared, &file.stamp, &file.header, sample)? {
            let Chunk::Records { bytes, .. } = chunk? else { continue };
            let values = first_values(shared, &bytes, &file.order, time);
            if !values.is_empty() {
                return of(&values).map(Some);
            }
        }
    }
    Ok(None)
}

/// The form of these times, of which there is one at least.
fn form_of(shared: &Shared, path: &str, name: &str, values: &[Vec<u8>]) -> Result<Form> {
    let custom = shared.settings.time_format.as_ref().map(|_| shared.clock(Form::Custom));
    let form = match &custom {
        Some(clock) => values.iter().any(|v| clock.read(v).is_ok()).then_some(Form::Custom),
        None => Form::guess(values.iter().map(Vec::as_slice)),
    };
    let first = String::from_utf8_lossy(&values[0]);
    if matches!(form, Some(Form::Epoch(_))) && values.iter().all(|v| is_compact_date(v)) {
        let what = format!("`{path}`: column `{name}` holds dates or numbers: `{first}`");
        return Err(Error::config(what)
            .hint("set `time_format`: `%Y%m%d` for dates, `%s` for seconds since 1970"));
    }
    form.ok_or_else(|| {
        let what = format!("`{path}`: column `{name}` holds no times: `{first}`");
        Error::config(what).hint(match custom {
            Some(_) => "the first times do not fit `time_format`",
            None => {
                "times are RFC 3339, `YYYY-MM-DD HH:MM:SS`, dates or numbers since 1970; \
                 set `time_format` for others"
            }
        })
    })
}

fn first_values(shared: &Shared, bytes: &[u8], order: &Order, time: usize) -> Vec<Vec<u8>> {
    let mut records = Records::of(shared.format, bytes, order, 1);
    let (mut fields, mut values) = (Vec::new(), Vec::new());
    while let Some(line) = records.next(&mut fields)
        && values.len() < GUESS_FROM
    {
        if line.problem.is_some() {
            continue;
        }
        let field = order.field(&fields, time);
        if !shared.is_null(field.raw(bytes), field.quoted) {
            values.push(field.value(bytes, shared.format).into_owned());
        }
    }
    values
}
