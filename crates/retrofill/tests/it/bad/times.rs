//! Times that are none, or more than one.

use std::fmt::Write as _;

use super::{Case, cases};

/// `times` between two good ones.
fn between(first: &str, times: &[&str], last: &str) -> String {
    let rows = times.iter().enumerate().map(|(n, t)| format!("{t},b,{n}\n"));
    format!("t,site,v\n{first},a,1\n{}{last},c,3\n", rows.collect::<String>())
}

const FIRST: &str = "2013-01-01T00:00:00Z";
const LAST: &str = "2013-01-01T01:00:00Z";

fn zoned(times: &[&str]) -> String {
    between(FIRST, times, LAST)
}

fn local(times: &[&str]) -> String {
    between("2013-11-03 00:00", times, "2013-11-03 04:00")
}

/// A month of the example in which the hour from one to two comes twice.
const MONTH: &str = include_str!("../../../../../examples/nyc-weather/data/2013-11.csv");

/// The example's local times, put into their zone by SQL.
const PLACED: &str = "SELECT to_timestamp_seconds(to_unixtime(make_date(year, month, day)) \
                      + hour * 3600) \
                      AT TIME ZONE 'America/New_York' AS t, origin AS site, temp AS v FROM source";

/// An hour that was left out.
fn gap() -> String {
    let header = MONTH.lines().next().unwrap();
    format!("{header}\nEWR,2013,3,10,2,39{},x\n", ",NA".repeat(8))
}

/// What the example itself says of when its rows are, without the hour that comes twice.
fn placed() -> String {
    let mut out = String::from("t,site,v\n");
    for line in MONTH.lines().skip(1).filter(|line| !line.contains(",2013,11,3,1,")) {
        let fields: Vec<_> = line.split(',').collect();
        writeln!(out, "{},{},{}", fields[14], fields[0], fields[5].replace("NA", "")).unwrap();
    }
    out
}

cases! {
    unparsable_time: Case::csv(zoned(&["soon", "2013-01-01", "03.01.2013"])).loads(zoned(&[]));
    no_time_at_all: Case::csv("t,site,v\nsoon,a,1\nlater,b,2\n");
    leap_second: Case::csv(zoned(&["2016-12-31T23:59:60Z"])).loads(zoned(&[]));
    hour_24: Case::csv(zoned(&["2013-01-01T24:00:00Z", "2013-01-01T24:00Z"])).loads(zoned(&[]));
    february_30: Case::csv(zoned(&["2013-02-30T00:00:00Z", "2013-02-29T00:00:00Z"]))
        .loads(zoned(&[]));
    before_1970: Case::csv(zoned(&["1969-12-31T23:59:59.5Z", "0000-01-01T00:00:00Z"]))
        .every("100y")
        .loads(zoned(&["1969-12-31T23:59:59.5Z", "0000-01-01T00:00:00Z"]));
    year_9999: Case::csv(zoned(&["9999-06-01T00:00:00Z", "9999-12-31T23:59:59Z"]))
        .every("1y")
        .loads(zoned(&[]));
    nanoseconds: Case::csv(zoned(&["2013-01-01T00:00:00.123456789Z"]));
    clocks_set_back: Case::csv(local(&["2013-11-03 01:00", "2013-11-03 01:59:59"]))
        .with("timezone: America/New_York")
        .loads("t,site,v\n2013-11-03 04:00,a,1\n2013-11-03 09:00,c,3\n");
    clocks_set_in_sql: Case::csv(MONTH).file("b.csv", gap())
        .with("null: [\"NA\"]")
        .transform(PLACED)
        .loads(placed());
    no_time_in_sql: Case::csv("t,site,v\nsoon,a,1\n,b,2\n")
        .transform("SELECT to_timestamp(t) AS t, site, v FROM source");
    clocks_set_forward: Case::csv(local(&["2013-03-10 02:00", "2013-03-10 02:59"]))
        .with("timezone: America/New_York")
        .loads("t,site,v\n2013-11-03 04:00,a,1\n2013-11-03 09:00,c,3\n");
}
