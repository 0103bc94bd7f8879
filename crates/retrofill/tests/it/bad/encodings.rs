//! Files that are not UTF-8, or not what they are said to be.

use super::{Case, cases};

const TEXT: &str = "t,site,größe\n2020-01-01,Köln,1\n2020-01-02,Málaga,2\n";

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

fn utf16(text: &str, low_first: bool) -> Vec<u8> {
    let bytes = |n: u16| if low_first { n.to_le_bytes() } else { n.to_be_bytes() };
    text.encode_utf16().flat_map(bytes).collect()
}

/// Latin-1 in one row, and in no header.
fn one_line() -> Vec<u8> {
    latin1("t,site,v\n2020-01-01,a,1\n2020-01-01,Köln,2\n2020-01-01,c,3\n")
}

/// Half a character in the second row, and a place behind it.
fn broken_utf16() -> Vec<u8> {
    let mut bytes = utf16("\u{feff}t,site,v\n2020-01-01,ö,1\n2020-01-01,", true);
    bytes.extend([0x00, 0xd8]);
    bytes.extend(utf16(",2\nsoon,ö,3\n2020-01-01,d,4\n", true));
    bytes
}

cases! {
    utf8_with_a_mark: Case::csv(format!("\u{feff}{TEXT}")).loads(TEXT);
    latin1_taken_for_utf8: Case::csv(one_line())
        .loads("t,site,v\n2020-01-01,a,1\n2020-01-01,c,3\n");
    latin1_header_taken_for_utf8: Case::csv(latin1(TEXT));
    latin1_by_name: Case::csv(latin1(TEXT)).with("encoding: latin-1").loads(TEXT);
    windows_1252: Case::csv(b"t,site,v\n2020-01-01,\x80\x84\x9f,1\n")
        .with("encoding: windows-1252")
        .loads("t,site,v\n2020-01-01,€„Ÿ,1\n");
    utf16_recognised: Case::csv(utf16(&format!("\u{feff}{TEXT}"), true)).loads(TEXT);
    utf16_high_byte_first: Case::csv(utf16(&format!("\u{feff}{TEXT}"), false)).loads(TEXT);
    utf16_without_a_mark: Case::csv(utf16(TEXT, true));
    utf16_without_a_byte_order: Case::csv(utf16(TEXT, true)).with("encoding: utf-16");
    utf16le_by_name: Case::csv(utf16(TEXT, true)).with("encoding: utf-16le").loads(TEXT);
    utf16_that_is_broken: Case::csv(broken_utf16())
        .loads("t,site,v\n2020-01-01,ö,1\n2020-01-01,d,4\n");
    utf16_beside_utf8: Case::csv(TEXT)
        .file("b.csv", utf16("\u{feff}site,t,größe\nÉvora,2020-01-01,3\n", true))
        .loads(format!("{TEXT}2020-01-01,Évora,3\n"));
    mark_against_setting: Case::csv(format!("\u{feff}{TEXT}")).with("encoding: latin-1");
}
