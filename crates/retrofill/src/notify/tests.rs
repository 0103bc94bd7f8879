//! Against servers of a few lines.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::json;

use super::*;

/// A server that gives these answers to one request each; empty ones never come.
fn server(answers: &'static [&'static str]) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (give, take) = mpsc::channel();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            give.send(request(&stream)).unwrap();
            if !answer.is_empty() {
                let _ = write!(
                    stream,
                    "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\
                     location: https://example.org/elsewhere\r\n\r\n"
                );
            }
            open.push(stream);
        }
        std::thread::sleep(Duration::from_secs(5));
    });
    (port, take)
}

/// First line and body.
fn request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim().to_lowercase();
        if let Some(n) = line.strip_prefix("content-length:") {
            length = n.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    format!("{}\n{}", first.trim(), String::from_utf8(body).unwrap())
}

fn message() -> Message {
    Message {
        name: "nyc-weather".into(),
        occasion: Occasion::Completed,
        headline: "Verified 12 of 12 slices <all>".into(),
        facts: vec![("Rows", "26,115 & more".into())],
        summary: json!({ "v": 1, "plan": "9f2c", "status": "verified", "exit": 0, "report": null }),
    }
}

fn hook(port: u16, format: Format) -> Notify {
    let url = format!("http://user:sesame@127.0.0.1:{port}/services/sesame?key=sesame");
    let hook = Webhook::new(url.parse().unwrap(), format, true);
    Notify { to: To::Webhook(hook), on: Occasion::ALL.to_vec() }
}

fn quick() -> Sender {
    let ms = Duration::from_millis;
    Sender { patience: ms(400), tries: 3, backoff: ms(10) }
}

async fn told(list: &[Notify]) -> Vec<String> {
    let warnings = quick().send(list, &message()).await;
    assert!(!warnings.concat().contains("sesame"), "{warnings:?}");
    warnings
}

#[tokio::test]
async fn a_server_that_recovers_is_told_once() {
    let (port, requests) = server(&["500 Oops", "503 Busy", "200 OK", "200 OK"]);
    assert_eq!(told(&[hook(port, Format::Generic)]).await, Vec::<String>::new());
    let requests: Vec<_> = requests.try_iter().collect();
    assert_eq!(requests.len(), 3, "{requests:?}");
    let (first, body) = requests[2].split_once('\n').unwrap();
    assert_eq!(first, "POST /services/sesame?key=sesame HTTP/1.1");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["summary"], message().summary);
    assert_eq!(body["event"], "completed");
}

#[tokio::test]
async fn who_does_not_take_it_is_named_by_host_alone() {
    let (port, requests) = server(&["404 Not Found"]);
    let warnings = told(&[hook(port, Format::Slack)]).await;
    let expected =
        format!("the webhook at http://127.0.0.1:{port} was not told: it answered 404 Not Found");
    assert_eq!(warnings, [expected]);
    assert_eq!(requests.try_iter().count(), 1, "a refusal is not tried again");
    let (port, _requests) = server(&["302 Found"]);
    assert!(told(&[hook(port, Format::Slack)]).await[0].contains("it answered 302 Found"));
    let (port, requests) = server(&["500 A", "500 B", "500 C", "200 OK"]);
    assert!(told(&[hook(port, Format::Slack)]).await[0].ends_with("(3 tries)"));
    assert_eq!(requests.try_iter().count(), 3);
}

#[tokio::test]
async fn nobody_is_waited_for_forever() {
    let (port, requests) = server(&["", ""]);
    let warnings = told(&[hook(port, Format::Generic)]).await;
    assert!(warnings[0].ends_with("it did not answer in time"), "{warnings:?}");
    assert_eq!(requests.try_iter().count(), 1, "it may have been taken: not sent twice");
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let warnings = told(&[hook(gone, Format::Generic)]).await;
    assert!(warnings[0].contains("it cannot be reached"), "{warnings:?}");
    assert!(warnings[0].ends_with("(3 tries)"), "{warnings:?}");
}

#[tokio::test]
async fn only_who_wants_to_know_is_told() {
    let (port, requests) = server(&["200 OK"]);
    let mut entry = hook(port, Format::Generic);
    entry.on = vec![Occasion::Failed, Occasion::Paused];
    told(&[entry]).await;
    assert_eq!(requests.try_iter().count(), 0);
}

fn command(script: &str) -> Notify {
    let words = ["sh", "-c", script, "sesame"].map(str::to_owned);
    Notify { to: To::Command(words.to_vec()), on: Occasion::ALL.to_vec() }
}

#[tokio::test]
async fn a_command_gets_the_summary_and_the_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let script = format!(
        "(cat; echo $RETROFILL_EVENT $RETROFILL_STATUS $RETROFILL_PLAN $RETROFILL_EXIT \
         [$RETROFILL_REPORT]) > '{}'",
        out.display()
    );
    assert_eq!(told(&[command(&script)]).await, Vec::<String>::new());
    let text = std::fs::read_to_string(out).unwrap();
    let (line, rest) = text.split_once('\n').unwrap();
    assert_eq!(serde_json::from_str::<Value>(line).unwrap(), message().summary);
    assert_eq!(rest.trim(), "completed verified 9f2c 0 []");
}

#[tokio::test]
async fn a_command_that_fails_hangs_or_is_missing_is_a_warning() {
    assert!(told(&[command("exit 3")]).await[0].contains("exit status: 3"));
    assert!(told(&[command("exec sleep 60")]).await[0].contains("did not end within 0.4 s"));
    let words = vec!["/no/such/program".to_owned()];
    let missing = Notify { to: To::Command(words), on: Occasion::ALL.to_vec() };
    assert!(told(&[missing]).await[0].contains("it cannot be started"));
}

#[test]
fn messages_read_well_and_cannot_be_broken_out_of() {
    let bodies: Vec<_> = [Format::Generic, Format::Slack, Format::Teams]
        .iter()
        .map(|f| serde_json::to_string_pretty(&payload::body(&message(), *f)).unwrap())
        .collect();
    insta::assert_snapshot!(bodies.join("\n\n"));
}

#[test]
fn nothing_shows_the_address() {
    let Notify { to: To::Webhook(hook), .. } = hook(80, Format::Slack) else { unreachable!() };
    assert_eq!(hook.to_string(), "http://127.0.0.1");
    assert_eq!(format!("{hook:?}"), "Webhook(http://127.0.0.1, Slack)");
}
