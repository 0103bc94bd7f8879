//! The ends as typed: where rows come from, and where they go.

use super::objects::RawOptions;
use super::read::{choice, section};
use super::types::RawTypes;
use super::values::Word;

section! {
    /// Exactly one connector that rows can be read from.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
    pub(super) struct RawSourceConnector needs [] {
        /// Arrow IPC files, also called Feather 2.
        pub(super) arrow: RawColumnar,
        /// Avro files.
        pub(super) avro: RawColumnar,
        /// CSV files.
        pub(super) csv: RawCsv,
        /// A Delta Lake table.
        pub(super) delta: RawDelta,
        /// A MariaDB table.
        pub(super) mariadb: RawMariadb,
        /// NDJSON files.
        pub(super) ndjson: RawNdjson,
        /// Parquet files.
        pub(super) parquet: RawColumnar,
        /// A PostgreSQL table.
        pub(super) postgres: RawPostgresSource,
        /// A table of an SQLite database.
        pub(super) sqlite: RawSqlite,
    }
}

section! {
    /// Exactly one connector that rows can be written to.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
    pub(super) struct RawTargetConnector needs [] {
        /// A Delta Lake table.
        pub(super) delta: RawDelta,
        /// A folder of CSV, NDJSON or Parquet files.
        pub(super) files: RawFolder,
        /// A PostgreSQL table.
        pub(super) postgres: RawPostgresTarget,
    }
}

section! {
    /// CSV files. Types are found over all rows: whole numbers, decimals, `true` and `false`,
    /// text; the time column becomes an instant.
    pub(super) struct RawCsv needs ["path"] {
        /// A file, or a pattern of `*`, `**`, `?`, `[..]` and `{a,b}`. Files are read in the order
        /// of their paths. They may lie in an object store: `s3://bucket/dir/`, `gs://`, `az://`,
        /// `https://`; an address that ends with `/` means all such files below.
        pub(super) path: String,
        /// The one byte between fields. Default: `,`.
        #[schemars(extend("default" = ","))]
        pub(super) delimiter: String,
        /// The one byte around fields that hold delimiters or line ends. Default: `"`.
        #[schemars(extend("default" = "\""))]
        pub(super) quote: String,
        /// Whether the first line of each file names the columns; else they are called
        /// `column_1`, `column_2` and so on. Default: true.
        #[schemars(extend("default" = true))]
        pub(super) header: bool,
        /// Unquoted words that stand for NULL beside the empty field. Default: none.
        pub(super) null: Vec<Word>,
        /// How the files are packed. Default: auto, by their names. A file may unpack to 512 MiB
        /// or to 100 times its size, whichever is more; unpack larger ones yourself.
        #[schemars(extend("default" = "auto"))]
        pub(super) compression: RawCompression,
        /// The time zone of times without one: an IANA name. Default: UTC.
        #[schemars(extend("default" = "UTC"))]
        pub(super) timezone: String,
        /// How times are written, in strptime's words (`%d.%m.%Y %H:%M`). Default: recognised
        /// without it are RFC 3339, `YYYY-MM-DD[ T]HH:MM[:SS[.f]]`, dates, and seconds, milli-,
        /// micro- or nanoseconds since 1970.
        pub(super) time_format: String,
        /// What the bytes of the files stand for. A line that is something else is refused. For a
        /// file that is packed or not UTF-8, places in it count the bytes of its text as UTF-8.
        /// Default: utf-8; files that begin with the mark of UTF-16 are recognised.
        #[schemars(extend("default" = "utf-8"))]
        pub(super) encoding: RawEncoding,
        /// What stands before the fraction of a number; times are not meant. Thousands are never
        /// separated. Default: `.`.
        #[schemars(extend("default" = "."))]
        pub(super) decimal: RawDecimal,
        /// Which columns the files of a pattern may have; their order is always free. Default:
        /// strict.
        #[schemars(extend("default" = "strict"))]
        pub(super) schema: RawSchema,
        /// The types of some columns, by name. A value that does not fit is refused. The types of
        /// a table that is there win. Default: found from all rows.
        pub(super) types: RawTypes,
        /// Whether directories `name=value` in the path of a file, as Hive and Spark lay them
        /// out, are columns of its rows. All files need the same names in the same order, unless
        /// `schema` is `union`. Values are percent-decoded; `__HIVE_DEFAULT_PARTITION__` is NULL.
        /// Default: true.
        #[schemars(extend("default" = true))]
        pub(super) hive: bool,
        /// A list of checksums that every file must fit, as `sha256sum`, `sha512sum` or `md5sum`
        /// writes it; names in it are relative to the list. A file that is altered, not listed, or
        /// listed and missing ends the plan: nothing is loaded. Default: none.
        pub(super) checksums: String,
        /// What the object store needs beside the address: see "Files in an object store".
        /// Secrets are `${VAR}` or `${file:}`. Default: what the environment says.
        pub(super) options: RawOptions,
    }
}

section! {
    /// NDJSON files (JSON lines): one object a line, whose keys are the columns. A key that an
    /// object lacks, or has as null, is NULL. Types are found over all rows: whole numbers,
    /// decimals, `true` and `false`, text; objects and lists stay JSON; the time column becomes an
    /// instant. A text stays text, even where it looks like a number.
    pub(super) struct RawNdjson needs ["path"] {
        /// A file, or a pattern of `*`, `**`, `?`, `[..]` and `{a,b}`. Files are read in the order
        /// of their paths. They may lie in an object store: `s3://bucket/dir/`, `gs://`, `az://`,
        /// `https://`; an address that ends with `/` means all such files below.
        pub(super) path: String,
        /// How the files are packed. Default: auto, by their names. A file may unpack to 512 MiB
        /// or to 100 times its size, whichever is more; unpack larger ones yourself.
        #[schemars(extend("default" = "auto"))]
        pub(super) compression: RawCompression,
        /// The time zone of times without one: an IANA name. Default: UTC.
        #[schemars(extend("default" = "UTC"))]
        pub(super) timezone: String,
        /// How times are written, in strptime's words. Default: recognised, as in CSV files.
        pub(super) time_format: String,
        /// Which keys the files of a pattern may have, all lines of a file together. Default:
        /// strict.
        #[schemars(extend("default" = "strict"))]
        pub(super) schema: RawSchema,
        /// The types of some columns, by name. A value that does not fit is refused. The types of
        /// a table that is there win. Default: found from all rows.
        pub(super) types: RawTypes,
        /// Whether directories `name=value` in the path of a file, as Hive and Spark lay them
        /// out, are columns of its rows. All files need the same names in the same order, unless
        /// `schema` is `union`. Values are percent-decoded; `__HIVE_DEFAULT_PARTITION__` is NULL.
        /// Default: true.
        #[schemars(extend("default" = true))]
        pub(super) hive: bool,
        /// A list of checksums that every file must fit, as `sha256sum`, `sha512sum` or `md5sum`
        /// writes it; names in it are relative to the list. A file that is altered, not listed, or
        /// listed and missing ends the plan: nothing is loaded. Default: none.
        pub(super) checksums: String,
        /// What the object store needs beside the address: see "Files in an object store".
        /// Secrets are `${VAR}` or `${file:}`. Default: what the environment says.
        pub(super) options: RawOptions,
    }
}

section! {
    /// A Delta Lake table on a local disk. As a target created where there is none.
    pub(super) struct RawDelta needs ["path"] {
        /// The table's directory.
        pub(super) path: String,
    }
}

section! {
    /// Files of typed columns: Parquet, Arrow IPC, Avro. Types are those of the files; whole
    /// numbers without a sign become ones of 64 bits, or decimals where one needs it; nanoseconds
    /// stay where a time needs them. Columns of lists, maps, structs and unions (but of one type
    /// with null) are refused, unless they are left out. Where pages of a Parquet file have
    /// checksums, those of all columns are compared: a damaged page ends the plan.
    pub(super) struct RawColumnar needs ["path"] {
        /// A file, or a pattern of `*`, `**`, `?`, `[..]` and `{a,b}`. Files are read in the order
        /// of their paths. They may lie in an object store: `s3://bucket/dir/`, `gs://`, `az://`,
        /// `https://`; an address that ends with `/` means all such files below.
        pub(super) path: String,
        /// The time zone of times without one, and of dates: an IANA name. Default: UTC.
        #[schemars(extend("default" = "UTC"))]
        pub(super) timezone: String,
        /// How times are written that are text, in strptime's words. Default: recognised, as in
        /// CSV files.
        pub(super) time_format: String,
        /// Which columns the files of a pattern may have; their order is always free. Default:
        /// strict.
        #[schemars(extend("default" = "strict"))]
        pub(super) schema: RawSchema,
        /// The types of some columns, by name, also where files differ. A value that does not fit
        /// exactly is refused. The types of a table that is there win. Default: those of the files.
        pub(super) types: RawTypes,
        /// Columns of the files that are left out. Default: none.
        pub(super) without: Vec<String>,
        /// Whether directories `name=value` in the path of a file, as Hive and Spark lay them
        /// out, are columns of its rows. All files need the same names in the same order, unless
        /// `schema` is `union`. Values are percent-decoded; `__HIVE_DEFAULT_PARTITION__` is NULL.
        /// Default: true.
        #[schemars(extend("default" = true))]
        pub(super) hive: bool,
        /// A list of checksums that every file must fit, as `sha256sum`, `sha512sum` or `md5sum`
        /// writes it; names in it are relative to the list. A file that is altered, not listed, or
        /// listed and missing ends the plan: nothing is loaded. Default: none.
        pub(super) checksums: String,
        /// What the object store needs beside the address: see "Files in an object store".
        /// Secrets are `${VAR}` or `${file:}`. Default: what the environment says.
        pub(super) options: RawOptions,
    }
}

section! {
    /// A PostgreSQL table (14 or newer) as a source. It is only read: times by server-side counts,
    /// slices by binary COPY. Values of other types than a target keeps are had as text.
    pub(super) struct RawPostgresSource needs ["url"] {
        /// The address of server and database, `postgres://user@host:5432/database`; with
        /// `?table=` it may name the table too. The password is best `${VAR}`: it is shown nowhere.
        pub(super) url: String,
        /// The table, `schema.table`; without a schema one of `public`. Names are taken byte for
        /// byte; one that holds a dot stands in `"`.
        pub(super) table: String,
        /// Allow a connection over a network without TLS, or to a server that does not prove who
        /// it is. Default: false; this machine needs no TLS.
        #[schemars(extend("default" = false))]
        pub(super) insecure: bool,
        /// A file with the certificates of the server's authority. Default: those of the system.
        pub(super) sslrootcert: String,
        /// Read everything of a run from one state of the table, which one transaction holds from
        /// beginning to end; the server cannot clean up meanwhile. Default: false; each slice is
        /// read as it is then, and is stale where that is not what the plan saw.
        #[schemars(extend("default" = false))]
        pub(super) snapshot: bool,
    }
}

section! {
    /// A MariaDB table (10.5 or newer) as a source. It is only read: times by server-side counts,
    /// slices by one statement each. A column that no target keeps must be left out.
    pub(super) struct RawMariadb needs ["url"] {
        /// The address of server and database, `mariadb://user@host:3306/database`; with `?table=`
        /// it may name the table too, with `&socket=` the server's socket. The password is best
        /// `${VAR}`: it is shown nowhere.
        pub(super) url: String,
        /// The table, byte for byte; not a view.
        pub(super) table: String,
        /// Allow a connection over a network without TLS, or to a server that does not prove who
        /// it is. Default: false; this machine needs no TLS.
        #[schemars(extend("default" = false))]
        pub(super) insecure: bool,
        /// A file with the certificates of the server's authority. Default: those of the system.
        pub(super) sslrootcert: String,
        /// Columns of the table that are left out. Default: none.
        pub(super) without: Vec<String>,
    }
}

section! {
    /// A table of an SQLite 3 database as a source. It is only read. Types are those declared, by
    /// SQLite's own rules; where the declaration leaves it open (`NUMERIC`, `DATETIME`, nothing),
    /// those of the values. A value of another class than its column is refused.
    pub(super) struct RawSqlite needs ["path", "table"] {
        /// The database: a file on this machine. It is never created.
        pub(super) path: String,
        /// The table, byte for byte; not a view.
        pub(super) table: String,
        /// The time zone of times without one: an IANA name. Default: UTC.
        #[schemars(extend("default" = "UTC"))]
        pub(super) timezone: String,
        /// How times are written that are text, in strptime's words. Default: recognised, as in
        /// CSV files: RFC 3339, `YYYY-MM-DD[ T]HH:MM[:SS[.f]]`, dates; numbers are seconds,
        /// milliseconds, microseconds or nanoseconds since 1970, by their size.
        pub(super) time_format: String,
        /// The types of some columns, by name, whatever is declared. A value that does not fit
        /// exactly is refused. The types of a table that is there win. Default: see above.
        pub(super) types: RawTypes,
    }
}

section! {
    /// A folder of files on a local disk as a target: each slice becomes one file, beside those
    /// that other programs have written there. Created where there is none. Receipts lie inside, in
    /// `_retrofill`. Modes `fill-missing` and `append`.
    pub(super) struct RawFolder needs ["path"] {
        /// The folder. What is in folders inside of it is not read.
        pub(super) path: String,
        /// What its files are. Default: csv.
        #[schemars(extend("default" = "csv"))]
        pub(super) format: RawFileFormat,
        /// CSV: the one byte between fields. Default: `,`.
        #[schemars(extend("default" = ","))]
        pub(super) delimiter: String,
        /// CSV: whether the first line of each file names the columns; else they are called
        /// `column_1`, `column_2` and so on. Default: true.
        #[schemars(extend("default" = true))]
        pub(super) header: bool,
        /// The time zone of times without one, as files of others may have them; then ours have
        /// none either. An IANA name. Default: UTC.
        #[schemars(extend("default" = "UTC"))]
        pub(super) timezone: String,
    }
}

choice! {
    /// What the files of a folder are.
    pub(super) enum RawFileFormat {
        /// CSV, as RFC 4180 has it.
        Csv = "csv",
        /// A JSON object a line.
        Ndjson = "ndjson",
        /// Parquet.
        Parquet = "parquet",
    }
}

section! {
    /// A PostgreSQL table (14 or newer) as a target. Created where there is none. Receipts lie
    /// beside it, in `retrofill.receipts`.
    pub(super) struct RawPostgresTarget needs ["url"] {
        /// The address of server and database, `postgres://user@host:5432/database`; with
        /// `?table=` it may name the table too. The password is best `${VAR}`: it is shown nowhere.
        pub(super) url: String,
        /// The table, `schema.table`; without a schema one of `public`. Names are taken byte for
        /// byte; one that holds a dot stands in `"`.
        pub(super) table: String,
        /// Allow a connection over a network without TLS, or to a server that does not prove who
        /// it is. Default: false; this machine needs no TLS.
        #[schemars(extend("default" = false))]
        pub(super) insecure: bool,
        /// A file with the certificates of the server's authority. Default: those of the system.
        pub(super) sslrootcert: String,
        /// Create the partitions that old rows need, one for each month, where the table is
        /// partitioned by ranges of the time. Default: false; what is missing is told by `plan`.
        #[schemars(extend("default" = false))]
        pub(super) create_partitions: bool,
    }
}

choice! {
    /// How files are packed.
    pub(super) enum RawCompression {
        /// By their endings `.gz`, `.zst`, `.bz2` and `.xz`; all others are not packed.
        Auto = "auto",
        /// No file is packed.
        None = "none",
        /// Every file is gzip.
        Gzip = "gzip",
        /// Every file is zstd.
        Zstd = "zstd",
        /// Every file is bzip2.
        Bzip2 = "bzip2",
        /// Every file is xz.
        Xz = "xz",
    }
}

choice! {
    /// What the bytes of files stand for.
    pub(super) enum RawEncoding {
        /// UTF-8, or UTF-16 where a file begins with its mark.
        Utf8 = "utf-8",
        /// UTF-16; each file begins with its mark.
        Utf16 = "utf-16",
        /// UTF-16, low byte first: what Windows writes.
        Utf16Le = "utf-16le",
        /// UTF-16, high byte first.
        Utf16Be = "utf-16be",
        /// ISO 8859-1.
        Latin1 = "latin-1",
        /// Windows-1252.
        Windows1252 = "windows-1252",
    }
}

choice! {
    /// What stands before the fraction of a number.
    pub(super) enum RawDecimal {
        /// `1.5`
        Point = ".",
        /// `1,5`; then the delimiter is another.
        Comma = ",",
    }
}

choice! {
    /// Which columns the files of a pattern may have.
    pub(super) enum RawSchema {
        /// The same in every file.
        Strict = "strict",
        /// All columns of all files are taken, NULL where a file lacks one.
        Union = "union",
    }
}
