//! Sends, waits, tries again.

use std::process::Stdio;
use std::time::Duration;

use futures::future::join_all;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::{Message, Notify, To, Webhook, payload};

/// Tells everybody who wants to know.
#[derive(Debug, Clone, Copy)]
pub struct Sender {
    /// How long one try, or the command, may take.
    pub patience: Duration,
    /// Tries of a webhook in all.
    pub tries: u32,
    /// The wait before the second try; it doubles.
    pub backoff: Duration,
}

impl Default for Sender {
    fn default() -> Self {
        Sender { patience: Duration::from_secs(10), tries: 3, backoff: Duration::from_millis(500) }
    }
}

impl Sender {
    /// Tells all at once; gives a sentence for each that could not be told.
    pub async fn send(self, list: &[Notify], message: &Message) -> Vec<String> {
        let wanted = list.iter().filter(|entry| entry.on.contains(&message.occasion));
        let sent = join_all(wanted.map(|entry| self.tell(&entry.to, message))).await;
        sent.into_iter().filter_map(Result::err).collect()
    }

    async fn tell(self, to: &To, message: &Message) -> Result<(), String> {
        match to {
            To::Webhook(hook) => {
                let told = self.post(hook, message).await;
                told.map_err(|why| format!("the webhook at {hook} was not told: {why}"))
            }
            To::Command(words) => {
                let told = self.call(words, message).await;
                // Arguments may hold what nobody else may see.
                told.map_err(|why| format!("the command `{}` failed: {why}", words[0]))
            }
        }
    }

    async fn post(self, hook: &Webhook, message: &Message) -> Result<(), String> {
        let client = self.client(hook).map_err(|e| explain(&e))?;
        let body = payload::body(message, hook.format).to_string();
        let mut wait = self.backoff;
        for number in 1.. {
            let request = client
                .post(hook.url.clone())
                .header("content-type", "application/json")
                .body(body.clone());
            let (again, why) = match request.send().await.map(|answer| answer.status()) {
                Ok(status) if status.is_success() => return Ok(()),
                Ok(status) => (is_passing(status), format!("it answered {status}")),
                Err(e) => (e.is_connect(), explain(&e)),
            };
            if !again || number >= self.tries {
                let tries = if number > 1 { format!(" ({number} tries)") } else { String::new() };
                return Err(format!("{why}{tries}"));
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        Ok(())
    }

    /// A redirect is an answer like any other: the secret goes nowhere else.
    fn client(self, hook: &Webhook) -> reqwest::Result<Client> {
        let client = Client::builder()
            .timeout(self.patience)
            .redirect(Policy::none())
            .user_agent(concat!("retrofill/", env!("CARGO_PKG_VERSION")));
        if hook.local { client.no_proxy().build() } else { client.build() }
    }

    async fn call(self, words: &[String], message: &Message) -> Result<(), String> {
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env("RETROFILL_EVENT", message.occasion.as_str())
            .env("RETROFILL_STATUS", message.field("status"))
            .env("RETROFILL_PLAN", message.field("plan"))
            .env("RETROFILL_EXIT", message.field("exit"))
            .env("RETROFILL_REPORT", message.field("report"))
            .stdin(Stdio::piped())
            // Standard output is for results.
            .stdout(Stdio::null())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|e| format!("it cannot be started: {e}"))?;
        let line = format!("{}\n", message.summary);
        let ended = async {
            if let Some(mut stdin) = child.stdin.take() {
                // A program need not read what it is told.
                let _ = stdin.write_all(line.as_bytes()).await;
            }
            child.wait().await
        };
        match tokio::time::timeout(self.patience, ended).await {
            Err(_) => Err(format!("it did not end within {} s", self.patience.as_secs_f64())),
            Ok(Err(e)) => Err(e.to_string()),
            Ok(Ok(status)) if !status.success() => Err(format!("it ended with {status}")),
            Ok(Ok(_)) => Ok(()),
        }
    }
}

/// Whether the same request may be taken later.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// An error in a few words. Drivers put URLs into theirs, so nothing of those is shown but the
/// innermost cause, which is about sockets and certificates.
fn explain(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        return "it did not answer in time".into();
    } else if error.is_connect() {
        "it cannot be reached"
    } else if error.is_builder() {
        "no client can be made"
    } else {
        "the connection broke"
    };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    cause.map_or_else(|| what.into(), |inner| format!("{what}: {inner}"))
}
