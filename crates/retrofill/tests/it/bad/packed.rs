//! Files that are compressed, or should be.

use std::io::Write as _;

use super::{Case, cases};

const TEXT: &str = "t,site,v\n2020-01-01,a,1\n2020-01-02,b,2\n";

#[derive(Clone, Copy)]
enum By {
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

fn pack(by: By, content: &[u8]) -> Vec<u8> {
    match by {
        By::Gzip => {
            let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            to.write_all(content).unwrap();
            to.finish().unwrap()
        }
        By::Zstd => zstd::encode_all(content, 3).unwrap(),
        By::Bzip2 => {
            let mut to = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
            to.write_all(content).unwrap();
            to.finish().unwrap()
        }
        By::Xz => {
            let mut to = liblzma::write::XzEncoder::new(Vec::new(), 6);
            to.write_all(content).unwrap();
            to.finish().unwrap()
        }
    }
}

/// Without its last byte.
fn cut(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.pop();
    bytes
}

/// Two packed halves, one behind the other, as parallel packers and `cat` leave them.
fn halves(by: By) -> Vec<u8> {
    let (a, b) = TEXT.split_at(20);
    [pack(by, a.as_bytes()), pack(by, b.as_bytes())].concat()
}

/// A good row, and 600 MiB of nothing behind it.
fn bomb() -> Vec<u8> {
    let mut to = zstd::Encoder::new(Vec::new(), 1).unwrap();
    to.write_all(TEXT.as_bytes()).unwrap();
    let nothing = vec![0; 1 << 20];
    for _ in 0..600 {
        to.write_all(&nothing).unwrap();
    }
    to.finish().unwrap()
}

/// 20 MiB that pack to a five-hundredth and more.
fn alike() -> String {
    let rows = (0..400_000).map(|n| format!("2020-01-{:02},{}\n", 1 + n % 28, "x".repeat(40)));
    format!("t,text\n{}", rows.collect::<String>())
}

/// An xz file that wants a window of 1 GiB.
fn greedy() -> Vec<u8> {
    let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
    options.dict_size(1 << 30);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let check = liblzma::stream::Check::Crc32;
    let stream = liblzma::stream::Stream::new_stream_encoder(&filters, check).unwrap();
    let mut to = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    to.write_all(TEXT.as_bytes()).unwrap();
    to.finish().unwrap()
}

fn named(name: &str, content: impl AsRef<[u8]>) -> Case {
    Case::nothing().file(name, content)
}

cases! {
    gzip_in_two_parts: named("a.csv.gz", halves(By::Gzip)).loads(TEXT);
    zstd_in_two_parts: named("a.csv.zst", halves(By::Zstd)).loads(TEXT);
    bzip2_in_two_parts: named("a.csv.bz2", halves(By::Bzip2)).loads(TEXT);
    xz_in_two_parts: named("a.csv.xz", halves(By::Xz)).loads(TEXT);
    capital_ending: named("A.CSV.GZ", pack(By::Gzip, TEXT.as_bytes())).loads(TEXT);
    by_setting: named("a.csv", pack(By::Xz, TEXT.as_bytes())).with("compression: xz").loads(TEXT);
    truncated_gzip: Case::csv(TEXT)
        .file("b.csv.gz", cut(pack(By::Gzip, "t,site,v\n2020-01-03,c,3\n".as_bytes())));
    truncated_zstd: named("a.csv.zst", cut(pack(By::Zstd, TEXT.as_bytes())));
    truncated_bzip2: named("a.csv.bz2", cut(pack(By::Bzip2, TEXT.as_bytes())));
    truncated_xz: named("a.csv.xz", cut(pack(By::Xz, TEXT.as_bytes())));
    damaged_gzip: named("a.csv.gz", {
        let mut bytes = pack(By::Gzip, TEXT.as_bytes());
        let at = bytes.len() - 6;
        bytes[at] ^= 1;
        bytes
    });
    gzip_by_its_content_alone: Case::csv(pack(By::Gzip, TEXT.as_bytes()));
    gzip_by_its_name_alone: named("a.csv.gz", TEXT);
    xz_with_the_name_of_zstd: named("a.csv.zst", pack(By::Xz, TEXT.as_bytes()));
    bzip2_against_the_setting: named("a.csv.bz2", pack(By::Bzip2, TEXT.as_bytes()))
        .with("compression: gzip");
    packed_against_the_setting: named("a.csv.zst", pack(By::Zstd, TEXT.as_bytes()))
        .with("compression: none");
    a_zip_archive: Case::csv("PK\u{3}\u{4}and so on");
    decompression_bomb: named("a.csv.zst", bomb());
    alike_rows_are_no_bomb: named("a.csv.zst", pack(By::Zstd, alike().as_bytes()))
        .rows("{ time: t }")
        .every("1mo")
        .loads(alike());
    greedy_xz: named("a.csv.xz", greedy());
}
