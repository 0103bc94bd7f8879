//! PostgreSQL tables, as target and as source.

mod connect;
mod fault;
mod settings;
mod sql;
mod tls;

pub use connect::{APPLICATION, connect};
pub use settings::PostgresSettings;
pub use sql::TableName;
