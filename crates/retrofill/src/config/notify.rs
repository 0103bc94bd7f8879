//! Who is told how a run ended. The URL of a webhook is a secret also where it is written out.

use serde_json::Value;
use url::{Host, Url};

use super::problem::Problem;
use super::raw::{RawNotify, RawNotifyFormat, RawOccasion};
use super::read::Field;
use super::tree::{Mark, Node, NodeKind};
use super::{objects, postgres};
use crate::notify::{Format, Notify, Occasion, To, Webhook};

/// The entries that are switched on.
pub(super) fn notify(field: &Field<Vec<RawNotify>>, problems: &mut Vec<Problem>) -> Vec<Notify> {
    let entries = field.get().into_iter().flatten();
    entries.filter_map(|raw| entry(raw, problems)).collect()
}

fn entry(raw: &RawNotify, problems: &mut Vec<Problem>) -> Option<Notify> {
    let on = occasions(&raw.on, problems);
    let to = match (raw.url.is_absent(), raw.command.is_absent()) {
        (false, true) => webhook(raw, problems),
        (true, false) => command(raw, problems),
        (both_missing, _) => {
            let message = if both_missing {
                "an entry of `notify` tells nobody"
            } else {
                "an entry of `notify` has both `url` and `command`"
            };
            let mark = raw.command.key.unwrap_or(Mark { length: 1, ..raw.url.mark });
            let hint = "each entry has either a `url` or a `command`";
            problems.push(Problem::at(mark, message).hint(hint));
            None
        }
    };
    Some(Notify { to: to?, on })
}

fn occasions(field: &Field<Vec<RawOccasion>>, problems: &mut Vec<Problem>) -> Vec<Occasion> {
    let Some(list) = field.get() else { return Occasion::ALL.to_vec() };
    if list.is_empty() {
        let problem = Problem::at(field.mark, "`notify.on` names no occasion");
        problems.push(problem.hint("leave it out for all, or leave the entry out"));
    }
    let occasion = |raw: &RawOccasion| match raw {
        RawOccasion::Completed => Occasion::Completed,
        RawOccasion::Failed => Occasion::Failed,
        RawOccasion::Mismatched => Occasion::Mismatched,
        RawOccasion::Paused => Occasion::Paused,
    };
    list.iter().map(occasion).collect()
}

fn command(raw: &RawNotify, problems: &mut Vec<Problem>) -> Option<To> {
    for (name, mark) in [("format", raw.format.key), ("insecure", raw.insecure.key)] {
        if let Some(mark) = mark {
            problems.push(Problem::at(mark, format!("`notify.{name}` is for a `url`")));
        }
    }
    let words: Vec<_> = raw.command.get()?.iter().map(|word| word.0.clone()).collect();
    let bad = if words.first().is_none_or(String::is_empty) {
        Some("`notify.command` names no program")
    } else if words.iter().any(|word| word.contains('\0')) {
        Some("`notify.command` holds a NUL")
    } else {
        None
    };
    if let Some(message) = bad {
        problems.push(Problem::at(raw.command.mark, message).hint("`[program, argument, ...]`"));
        return None;
    }
    Some(To::Command(words))
}

/// None where the URL is empty, or wrong: then the problem names what, never the URL.
fn webhook(raw: &RawNotify, problems: &mut Vec<Problem>) -> Option<To> {
    let text = raw.url.get()?.trim();
    if text.is_empty() {
        return None;
    }
    let mut wrong = |message: &str, hint: &str| {
        problems.push(Problem::at(raw.url.mark, message).hint(hint));
        None
    };
    let Some(url) = Url::parse(text).ok().filter(Url::has_host) else {
        return wrong("`notify.url` is not a URL", "it begins with `https://`");
    };
    let local = is_loopback(&url);
    match url.scheme() {
        "https" => {}
        "http" if local || raw.insecure.or(false) => {}
        "http" => {
            let hint = "use `https`, or allow it with `insecure: true`";
            return wrong("`notify.url` would be sent without TLS", hint);
        }
        _ => return wrong("`notify.url` is neither `https` nor `http`", "webhooks speak HTTP"),
    }
    let format = match raw.format.or(RawNotifyFormat::Auto) {
        RawNotifyFormat::Auto => by_host(url.host_str().unwrap_or_default()),
        RawNotifyFormat::Generic => Format::Generic,
        RawNotifyFormat::Slack => Format::Slack,
        RawNotifyFormat::Teams => Format::Teams,
    };
    Some(To::Webhook(Webhook::new(url, format, local)))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn by_host(host: &str) -> Format {
    let below = |domain: &str| host.strip_suffix(domain).is_some_and(|sub| sub.ends_with('.'));
    if matches!(host, "hooks.slack.com" | "hooks.slack-gov.com") {
        Format::Slack
    } else if below("webhook.office.com") || below("logic.azure.com") || below("powerplatform.com")
    {
        Format::Teams
    } else {
        Format::Generic
    }
}

/// Takes entries with a URL that is written out from the spec's copy that plans keep. An address
/// that stands in a variable or file stays a reference.
pub(super) fn forget_urls(raw: &mut Value) {
    let Some(Value::Array(entries)) = raw.get_mut("notify") else { return };
    entries.retain(|entry| match entry.get("url") {
        Some(Value::String(text)) => text.is_empty() || is_reference(text),
        Some(_) => false,
        None => true,
    });
}

/// Whether all of the text is one `${}` with nothing written out in it.
fn is_reference(text: &str) -> bool {
    let inside = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inside.is_some_and(|inside| {
        let default = inside.split_once(":-").map_or("", |(_, default)| default);
        default.is_empty() && !inside.contains('}')
    })
}

/// The document as messages may show it: without the URLs of webhooks, and without the addresses
/// with passwords and the secrets of stores that are written out.
pub(super) fn masked(text: &str, root: &Node) -> String {
    let mut marks = Vec::new();
    for list in values(root, "notify") {
        let NodeKind::List(entries) = &list.kind else { continue };
        for url in entries.iter().flat_map(|entry| values(entry, "url")) {
            if matches!(&url.kind, NodeKind::Scalar(s) if !is_reference(&s.written)) {
                marks.push(url.mark);
            }
        }
    }
    marks.extend(postgres::passwords(root));
    marks.extend(objects::secrets(root));
    if marks.is_empty() {
        return text.to_owned();
    }
    let mask = |(i, line): (usize, &str)| {
        let hidden = |column: usize| {
            let inside = |m: &&Mark| m.column <= column && column < m.column + m.length;
            marks.iter().filter(|m| m.line == i + 1).any(|m| inside(&m))
        };
        let shown = line.chars().enumerate();
        shown.map(|(c, char)| if hidden(c + 1) { '*' } else { char }).collect::<String>()
    };
    text.lines().enumerate().map(mask).collect::<Vec<_>>().join("\n")
}

/// The values under a key.
fn values<'a>(node: &'a Node, key: &'a str) -> impl Iterator<Item = &'a Node> {
    let entries = match &node.kind {
        NodeKind::Map(entries) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().filter(move |entry| entry.key == key).map(|entry| &entry.value)
}

#[cfg(test)]
mod tests {
    use super::super::{JobSource, Loaded, Problems, load};
    use super::*;

    fn with(notify: &str) -> Result<Loaded, Problems> {
        let env = |name: &str| match name {
            "HOOK" => Some("https://hooks.slack.com/services/sesame".into()),
            "EMPTY" => Some(String::new()),
            "BAD" => Some("sesame".into()),
            "PLAIN" => Some("http://example.org/sesame".into()),
            _ => None,
        };
        let text =
            format!("source: a.csv\ntarget: delta:out\nrows: {{ time: t }}\nnotify:\n{notify}");
        let (name, base_dir) = ("backfill".into(), "base".into());
        load(&JobSource::Text { name, text, base_dir }, &env)
    }

    fn entries(notify: &str) -> Vec<Notify> {
        with(notify).unwrap().notify
    }

    #[test]
    fn entries_arrive_and_empty_ones_are_off() {
        let list = entries(
            "  - { url: \"${HOOK}\" }\n  - { url: \"${EMPTY:-}\" }\n  - { url: \"${NO:-}\" }\n  \
             - { url: \"\" }\n  - { command: [mail, -s, 7], on: [failed, mismatched] }\n",
        );
        assert_eq!(list.len(), 2, "{list:?}");
        assert!(matches!(&list[0].to, To::Webhook(hook) if hook.format() == Format::Slack));
        assert_eq!(list[0].on, Occasion::ALL);
        let words = ["mail", "-s", "7"].map(str::to_owned).to_vec();
        assert_eq!(list[1].to, To::Command(words));
        assert_eq!(list[1].on, [Occasion::Failed, Occasion::Mismatched]);
    }

    #[test]
    fn the_format_is_that_of_the_host_unless_named() {
        let format = |entry: &str| match &entries(&format!("  - {{ {entry} }}\n"))[0].to {
            To::Webhook(hook) => hook.format(),
            To::Command(_) => unreachable!(),
        };
        let cases = [
            ("url: https://hooks.slack.com/x", Format::Slack),
            ("url: https://corp.webhook.office.com/x", Format::Teams),
            ("url: \"https://prod-7.westeurope.logic.azure.com:443/x\"", Format::Teams),
            ("url: https://hooks.slack.com.example.org/x", Format::Generic),
            ("url: https://evilwebhook.office.com/x", Format::Generic),
            ("url: https://example.org/x, format: teams", Format::Teams),
            ("url: https://hooks.slack.com/x, format: generic", Format::Generic),
            ("url: \"http://[::1]:80/x\"", Format::Generic),
            ("url: http://127.0.0.9/x", Format::Generic),
            ("url: http://localhost/x", Format::Generic),
            ("url: http://example.org/x, insecure: true", Format::Generic),
        ];
        for (entry, expected) in cases {
            assert_eq!(format(entry), expected, "{entry}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_no_address_shown() {
        let bad = with(
            "  - { url: http://example.org/sesame }\n  - { url: \"${PLAIN}\" }\n  \
             - { url: sesame }\n  - { url: \"ftp://sesame/x\" }\n  - { url: \"${BAD}\" }\n  \
             - { on: [failed] }\n  - { url: https://x/sesame, command: [a] }\n  \
             - { url: https://x/sesame, on: [] }\n  - { url: https://x/sesame, onn: [failed] }\n  \
             - { command: [] }\n  - { command: [a], format: slack, insecure: true }\n  \
             - { url: https://x/sesame, format: slak }\n",
        );
        let shown = bad.unwrap_err().to_string();
        assert!(!shown.contains("sesame"), "{shown}");
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn a_plan_keeps_references_but_no_address() {
        let mut raw = serde_json::json!({ "notify": [
            { "url": "${HOOK}" }, { "url": "https://x/sesame" },
            { "url": "${NO:-https://x/sesame}" }, { "url": "${A}/${B}" }, { "command": ["a"] },
            { "url": "${file:/run/hook}" }, { "url": 7 },
        ] });
        forget_urls(&mut raw);
        let kept = serde_json::json!({ "notify": [
            { "url": "${HOOK}" }, { "command": ["a"] }, { "url": "${file:/run/hook}" },
        ] });
        assert_eq!(raw, kept);
        let one = with("  - { url: \"${HOOK}\" }\n").unwrap();
        let two = with("  - { url: https://x/sesame }\n").unwrap();
        assert_eq!(one.spec.hash(), two.spec.hash(), "who is told decides nothing about rows");
        assert!(!format!("{one:?}{two:?}").contains("sesame"));
    }
}
