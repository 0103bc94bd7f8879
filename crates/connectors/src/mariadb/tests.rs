//! Against a real server.

use std::sync::Arc;

use retrofill_core::connector::Source as _;
use retrofill_core::error::Kind;
use xtask::need::{Need, here};
use xtask::servers::{Mariadb, MariadbDatabase};

use super::{MariadbSettings, MariadbSource};
use crate::testkit::source_suite::Given;

fn open(url: &str, table: &str) -> MariadbSource {
    let settings = MariadbSettings::new(url.into(), table.into()).unwrap();
    MariadbSource::open(settings, std::path::Path::new(".")).unwrap()
}

/// 150 rows over three days, in no order of time; one of them has none, and two are equal.
pub(super) fn given(key: &str) -> Given<()> {
    let database = Mariadb::shared().database();
    database.ask(&format!(
        "CREATE TABLE t (t DATETIME(3) NULL, s VARCHAR(9) NOT NULL, v DOUBLE, n INT NOT NULL{key});
         INSERT INTO t SELECT IF(seq = 77, NULL, '2020-01-01' + INTERVAL (seq * 37 % 150) * 30 \
         MINUTE), CONCAT('s', seq % 3), seq / 8, seq FROM seq_0_to_149;"
    ));
    let source = open(&database.url(), "t");
    Given {
        source: Arc::new(source),
        time: "t",
        change: Box::new(move || {
            database.ask("UPDATE t SET v = v + 1 WHERE n = 9");
        }),
        _keep: (),
    }
}

macro_rules! suites {
    ($($name:ident: $key:literal),*) => {$(
        mod $name {
            crate::testkit::conformance!(source: || super::super::given($key));
        }
    )*};
}

suites! { keyed: ", PRIMARY KEY (s, n), INDEX (t)", keyless: "" }

/// The address of a database without a right to it.
fn stranger(database: &MariadbDatabase) -> String {
    database
        .server
        .try_ask("mysql", "CREATE OR REPLACE USER stranger@'%' IDENTIFIED BY 'x';")
        .unwrap();
    database.url().replace("root@", "stranger:x@")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_has_its_class() {
    if !here("mariadb::what_is_wrong_has_its_class", &[Need::Mariadb]) {
        return;
    }
    let database = Mariadb::shared().database();
    database.ask("CREATE TABLE t (t DATETIME, v INT)");
    let kind = |url: String, table: &'static str| async move {
        open(&url, table).stamps().await.map(|_| ()).unwrap_err().kind()
    };
    assert_eq!(kind(database.url(), "u").await, Kind::Config);
    assert_eq!(kind(stranger(&database), "t").await, Kind::Config);
    let nobody = database.url().replace("root@", "nobody:x@");
    assert_eq!(kind(nobody, "t").await, Kind::Config);
    assert_eq!(kind("mariadb://root@127.0.0.1:1/d".into(), "t").await, Kind::Unavailable);
    assert!(open(&database.url(), "t").stamps().await.is_ok());
}
