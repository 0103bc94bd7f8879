//! What is sent: short, readable, with the numbers.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Format, Message, Occasion};

/// The body of a webhook.
pub(super) fn body(message: &Message, format: Format) -> Value {
    match format {
        Format::Generic => json!({
            "v": 1,
            "job": message.name,
            "event": message.occasion.as_str(),
            "text": plain(message),
            "summary": message.summary,
        }),
        Format::Slack => json!({ "text": slack(message) }),
        Format::Teams => teams(message),
    }
}

/// `nyc-weather: Verified 12 of 12 slices.`, then a fact a line.
fn plain(message: &Message) -> String {
    let mut text = format!("{}: {}", message.name, message.headline);
    for (name, value) in &message.facts {
        // Writing to a text cannot fail.
        let _ = write!(text, "\n{name}: {value}");
    }
    text
}

fn mark(occasion: Occasion) -> &'static str {
    match occasion {
        Occasion::Completed => "\u{2705}",
        Occasion::Failed => "\u{274c}",
        Occasion::Mismatched => "\u{1f6a8}",
        Occasion::Paused => "\u{23f8}\u{fe0f}",
    }
}

/// In Slack's words only these three characters can begin anything but text.
fn slack(message: &Message) -> String {
    let safe = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mark = mark(message.occasion);
    let mut text = format!("{mark} *{}*: {}", safe(&message.name), safe(&message.headline));
    for (name, value) in &message.facts {
        let _ = write!(text, "\n\u{2022} {name}: {}", safe(value));
    }
    text
}

/// An adaptive card, in the envelope that workflows and connectors take.
fn teams(message: &Message) -> Value {
    let colour = match message.occasion {
        Occasion::Completed => "good",
        Occasion::Failed | Occasion::Mismatched => "attention",
        Occasion::Paused => "warning",
    };
    let facts: Vec<_> = message
        .facts
        .iter()
        .map(|(name, value)| json!({ "title": name, "value": value }))
        .collect();
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            { "type": "TextBlock", "text": message.name, "weight": "bolder", "size": "medium" },
            { "type": "TextBlock", "text": message.headline, "color": colour, "wrap": true },
            { "type": "FactSet", "facts": facts },
        ],
    });
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": card,
        }],
    })
}
