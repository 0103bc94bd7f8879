//! The program as its users meet it: the built binary, real files, tables read by others.
//!
//! Tests that need the Python judges say so on standard output and pass where these are missing;
//! `RETROFILL_REQUIRE=python` turns that into a failure.

#![allow(clippy::unwrap_used, reason = "a test may stop where it cannot go on")]

mod bad;
mod commands;
mod compat;
mod example;
mod exec;
mod folder;
mod formats;
mod gaps;
mod growth;
mod guards;
mod guide;
mod harness;
mod healing;
mod hive;
mod init;
mod inputs;
mod judge;
mod kill;
mod live;
mod mariadb;
mod modes;
mod objects;
mod pages;
mod postgres;
mod recover;
mod rejects;
mod report;
mod runners;
mod sample;
mod settings;
mod sqlite;
mod transform;
mod trial;
mod verify;
