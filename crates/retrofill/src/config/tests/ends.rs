//! Sources and targets that cannot be.

use super::{ends, problems};

bad! {
    bad_connectors: ends("{ postgres: { url: x } }", "{ csv: { path: o } }");
    bad_url_strings: ends("postgres://h/db", "./out");
    bad_object_store: ends("{ csv: { path: \"s3://b/*.csv\" } }", "delta:gs://b/t");
    bad_options: ends(
        "{ csv: { path: \"s3://b/*.csv\", options: { regoin: x, skip_signature: maybe, \
         endpoint: \"ftp://h\", secret_access_key: hush, session_token: \"${A:-hush}\" } } }",
        "delta:o",
    );
    bad_options_of_a_path: ends("{ csv: { path: a.csv, options: { region: x } } }", "delta:o");
    bad_address: ends("{ csv: { path: \"https://u:hush@h/a.csv\" } }", "delta:o");
    bad_no_connector: "source: {}\ntarget:\nrows:\n";
    bad_same_table: ends("delta:o", "{ delta: { path: o } }");
    bad_two_connectors: ends("{ csv: { path: a }, parquet: { path: b } }", "delta:o");
    bad_folder: ends(
        "files:a",
        "{ files: { path: \"s3://b\", format: parquet, header: false, delimiter: ab, \
         timezone: X } }",
    );
    bad_parquet_words:
        ends("{ parquet: { path: a, timezone: Berlin, time_format: x } }", "delta:o");
}
