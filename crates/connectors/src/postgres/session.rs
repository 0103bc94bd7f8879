//! Connections in use: questions, and transactions whose settings do not depend on the session's.

use std::fmt::Write as _;
use std::time::Duration;

use retrofill_core::error::{Error, Result};
use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::connect::{Server, Session};
use super::fault;

/// The texts of a row.
pub(super) type Texts = Vec<Option<String>>;

/// A lock is waited for no longer than this at a time: whoever else waits behind us does too.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// A session that waits for us within a transaction is ended after this by the server itself, on
/// top of what the transaction may take.
const IDLE: Duration = Duration::from_secs(30);

/// A question that takes no time is answered within this, or there is no way to the server: whoever
/// asks may hold the last connection that a pooler gives away, and waits for another in vain.
const SOON: Duration = Duration::from_secs(5);

/// A server that does not answer a ROLLBACK for so long gets no chance to.
const PATIENCE: Duration = Duration::from_secs(5);

/// Rows per statement of a text with several.
pub(super) async fn ask(
    client: &Client,
    sql: &str,
) -> std::result::Result<Vec<Vec<Texts>>, tokio_postgres::Error> {
    let mut out = vec![Vec::new()];
    for message in client.simple_query(sql).await? {
        match message {
            SimpleQueryMessage::Row(row) => {
                let texts = (0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect();
                if let Some(last) = out.last_mut() {
                    last.push(texts);
                }
            }
            SimpleQueryMessage::CommandComplete(_) => out.push(Vec::new()),
            _ => {}
        }
    }
    out.pop();
    Ok(out)
}

/// How a transaction begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening {
    pub(super) isolation: &'static str,
    pub(super) read_only: bool,
    /// What it may take as a whole; none = as long as it likes.
    pub(super) longest: Option<Duration>,
}

impl Opening {
    /// For a look at one state of the table.
    pub(super) const LOOK: Opening =
        Opening { isolation: "REPEATABLE READ", read_only: true, longest: None };

    /// The statements. Nothing a session or a user has set before counts: values mean the same
    /// everywhere, rows that security would hide are an error, commits are durable, and no lock
    /// is waited for at length.
    pub(super) fn sql(&self) -> String {
        let access = if self.read_only { " READ ONLY" } else { "" };
        let mut sql = format!("BEGIN ISOLATION LEVEL {}{access};", self.isolation);
        let millis = |d: Option<Duration>| d.map_or(0, |d| d.as_millis());
        let idle = self.longest.map(|d| d + IDLE).or(Some(20 * IDLE));
        for (name, value) in [
            ("TimeZone", "'UTC'".to_owned()),
            ("DateStyle", "'ISO, YMD'".to_owned()),
            ("IntervalStyle", "'postgres'".to_owned()),
            ("extra_float_digits", "1".to_owned()),
            ("bytea_output", "'hex'".to_owned()),
            ("row_security", "off".to_owned()),
            ("lock_timeout", LOCK_TIMEOUT.as_millis().to_string()),
            ("statement_timeout", millis(self.longest).to_string()),
            ("idle_in_transaction_session_timeout", millis(idle).to_string()),
        ] {
            let _ = write!(sql, "SET LOCAL {name} = {value};");
        }
        if !self.read_only {
            // What a trigger would do at the commit it does before the rows are read back.
            sql.push_str("SET CONSTRAINTS ALL IMMEDIATE;SET LOCAL synchronous_commit = on;");
        }
        sql
    }
}

impl Server {
    /// Asks something that changes nothing, outside of a transaction of ours.
    pub(super) async fn ask(&self, sql: &str, what: &str) -> Result<Vec<Vec<Texts>>> {
        self.asked(sql, what, Duration::MAX).await
    }

    /// The same of what takes no time.
    pub(super) async fn ask_soon(&self, sql: &str, what: &str) -> Result<Vec<Vec<Texts>>> {
        self.asked(sql, what, SOON).await
    }

    async fn asked(&self, sql: &str, what: &str, patience: Duration) -> Result<Vec<Vec<Texts>>> {
        let silent = || {
            Error::unavailable(format!("{what}: no answer within {} s", patience.as_secs()))
                .hint("a pooler in between needs two connections for each of `limits.concurrency`")
        };
        if let Some(client) = self.idle() {
            match timeout(patience, ask(&client, sql)).await.map_err(|_| silent())? {
                Ok(rows) => {
                    self.keep(client);
                    return Ok(rows);
                }
                // An idle connection may have been cut without anybody noticing.
                Err(e) if e.as_db_error().is_none() => {}
                Err(e) => return Err(self.fault(&e, what)),
            }
        }
        let client = self.fresh().await?;
        let answer = timeout(patience, ask(&client, sql)).await.map_err(|_| silent())?;
        let rows = answer.map_err(|e| self.fault(&e, what))?;
        self.keep(client);
        Ok(rows)
    }

    /// The only text of the only row of the first statement, which takes no time; none where there
    /// is no row.
    pub(super) async fn text(&self, sql: &str, what: &str) -> Result<Option<String>> {
        let rows = self.ask_soon(sql, what).await?;
        Ok(rows.into_iter().flatten().next().and_then(|row| row.into_iter().next().flatten()))
    }

    /// Begins a transaction with these first statements. An idle connection that turns out to be
    /// broken is replaced by a new one.
    pub(super) async fn begin(
        &self,
        sql: &str,
    ) -> std::result::Result<(Session, Vec<Vec<Texts>>), Refusal> {
        if let Some(client) = self.idle() {
            match ask(&client, sql).await {
                Ok(rows) => return Ok((client, rows)),
                Err(e) if e.as_db_error().is_none() || fault::is_unknown(&e) => {}
                Err(e) => {
                    self.roll_back(client).await;
                    return Err(Refusal::Server(e));
                }
            }
        }
        let client = self.fresh().await.map_err(Refusal::Way)?;
        match ask(&client, sql).await {
            Ok(rows) => Ok((client, rows)),
            Err(e) => {
                self.roll_back(client).await;
                Err(Refusal::Server(e))
            }
        }
    }

    /// Ends a transaction without a trace and keeps the connection.
    pub(super) async fn roll_back(&self, client: Session) {
        if client.is_closed() {
            return;
        }
        // The end of the connection ends the transaction too.
        let ended = timeout(PATIENCE, client.batch_execute("ROLLBACK")).await;
        if matches!(ended, Ok(Ok(()))) {
            self.keep(client);
        }
    }
}

/// Why a transaction did not begin.
pub(super) enum Refusal {
    /// There is no connection.
    Way(Error),
    /// The server says why.
    Server(tokio_postgres::Error),
}
