//! Every damage to the bytes of a data file is found, whether or not it changes a value.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use retrofill_core::connector::RowPicker;
use retrofill_core::error::Kind;

use super::*;

/// Picks every third row.
struct Thirds;

#[async_trait]
impl RowPicker for Thirds {
    async fn pick(&mut self, rows: RecordBatch) -> Result<Vec<bool>> {
        Ok((0..rows.num_rows()).map(|i| i % 3 == 0).collect())
    }
}

/// Three slices: the second is loaded twice, and the third takes rows out of its own file.
async fn table(dir: &Path) -> DeltaTarget {
    let target = prepared(dir).await;
    for hour in 0..3 {
        load(&target, hour, &rows(hour, 300)).await;
    }
    let mut late = rows(1, 310);
    late.drain(..300);
    let more = slice(1, 2);
    committed(sealed(&target, &more, &late).await.commit(receipt_held(&more, 300)).await);

    let other = SliceLoad { mode: Mode::Upsert, ..slice(2, 2) };
    let mut load = target.begin(&other).await.unwrap();
    load.remove(&mut Thirds).await.unwrap();
    load.write(batch(&rows(2, 7))).await.unwrap();
    load.seal().await.unwrap();
    load.read_back(&mut Kept::default()).await.unwrap();
    committed(load.commit(receipt_held(&other, 300)).await);
    target
}

fn receipt_held(slice: &SliceLoad, rows: u64) -> Receipt {
    let mut receipt = receipt(slice);
    receipt.latest_mut().digests.before.count = rows;
    receipt
}

/// The receipts as they stand, and the data files each of them rests on.
async fn rests(target: &DeltaTarget, dir: &Path) -> Vec<(Receipt, Vec<PathBuf>)> {
    let found = target.receipts(&always()).await.unwrap().found;
    let of = |receipt: Receipt| {
        let files = receipt.latest().anchor["files"].as_array().unwrap();
        let path = |f: &serde_json::Value| dir.join("table").join(f["path"].as_str().unwrap());
        let files = files.iter().map(path).collect();
        (receipt, files)
    };
    found.into_iter().map(|f| of(f.receipt)).collect()
}

fn below(chance: &mut ChaCha8Rng, end: usize) -> usize {
    chance.next_u32() as usize % end
}

/// Damages the bytes; tells how.
fn damage(bytes: &mut Vec<u8>, chance: &mut ChaCha8Rng) -> &'static str {
    let (at, other) = (below(chance, bytes.len()), below(chance, bytes.len()));
    match chance.next_u32() % 8 {
        0 => {
            bytes.swap(at, other);
            "two bytes swapped"
        }
        1 => {
            bytes.truncate(at);
            "cut"
        }
        2 => {
            bytes.push(bytes[at]);
            "a byte more"
        }
        3 => {
            bytes.remove(at);
            "a byte less"
        }
        4 => {
            let end = bytes.len().min(at + 64);
            bytes[at..end].fill(0);
            "zeros"
        }
        5 => {
            let piece = bytes[at..bytes.len().min(at + 32)].to_vec();
            let to = other.min(bytes.len() - piece.len());
            bytes[to..to + piece.len()].copy_from_slice(&piece);
            "another piece of itself"
        }
        _ => {
            bytes[at] ^= 1 << (chance.next_u32() % 8);
            "a bit flipped"
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damage_to_a_data_file_is_found() {
    let wanted: u32 =
        std::env::var("RETROFILL_CORRUPTIONS").ok().map_or(10_000, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let target = table(dir.path()).await;
    let rests = rests(&target, dir.path()).await;
    let files: Vec<_> = rests.iter().map(|(_, files)| files.len()).collect();
    assert_eq!(files, [1, 2, 2]);
    let mut chance = ChaCha8Rng::seed_from_u64(11);
    let (mut found, mut kinds) = (0, BTreeMap::<_, u32>::new());
    while found < wanted {
        let hit = below(&mut chance, rests.len());
        let (receipt, files) = &rests[hit];
        let path = &files[below(&mut chance, files.len())];
        let whole = std::fs::read(path).unwrap();
        let mut bytes = whole.clone();
        let kind = damage(&mut bytes, &mut chance);
        if bytes == whole {
            continue;
        }
        std::fs::write(path, &bytes).unwrap();
        let why = target.damage(receipt).await.unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(why.is_some_and(|why| why.contains(name)), "{found}: {kind} in {name}");
        let (other, _) = &rests[(hit + 1) % rests.len()];
        assert_eq!(target.damage(other).await.unwrap(), None, "{found}: blamed another slice");
        std::fs::write(path, &whole).unwrap();
        found += 1;
        *kinds.entry(kind).or_default() += 1;
    }
    for (receipt, _) in &rests {
        assert_eq!(target.damage(receipt).await.unwrap(), None);
    }
    println!("{found} damages of data files, all found: {kinds:?}");
    assert_eq!(kinds.len(), 7, "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_left_the_table_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let target = table(dir.path()).await;
    let (receipt, files) = rests(&target, dir.path()).await.remove(0);
    let name = files[0].file_name().unwrap().to_str().unwrap();
    let remove = serde_json::json!({ "remove": {
        "path": name, "dataChange": false, "deletionTimestamp": 1_700_000_000_000_i64,
    }});
    foreign_entry(dir.path(), &[remove]);
    std::fs::remove_file(&files[0]).unwrap();
    assert_eq!(target.damage(&receipt).await.unwrap(), None);
}

/// A file that holds rows of this slice alone leaves with the load that brings them back; one
/// that was written anew by a load may hold rows of others, and is not thrown away.
#[tokio::test(flavor = "multi_thread")]
async fn a_damage_that_changes_no_value_is_repaired_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let target = table(dir.path()).await;
    let rests = rests(&target, dir.path()).await;
    let flip = |path: &PathBuf| {
        let mut bytes = std::fs::read(path).unwrap();
        let author = bytes.windows(9).rposition(|w| w == b"retrofill").unwrap();
        bytes[author] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    flip(&rests[0].1[0]);
    assert_eq!(held(&target, 0).await.unwrap().len(), 300, "every value can be read");
    let repair = slice(0, 2);
    let load = sealed(&target, &repair, &rows(0, 300)).await;
    committed(load.commit(receipt_of(&repair, &rows(0, 300))).await);
    assert_eq!(held(&target, 0).await.unwrap(), Kept(rows(0, 300)).sorted());
    assert!(data_files(dir.path()).len() > 4, "the wreck stays for VACUUM");

    let (own, anew) = (&rests[2].1[0], &rests[2].1[1]);
    flip(anew);
    let error = target.begin(&SliceLoad { mode: Mode::Upsert, ..slice(2, 3) }).await.err().unwrap();
    let name = anew.file_name().unwrap().to_str().unwrap();
    assert!(error.kind() == Kind::Mismatch && error.message().contains(name), "{error}");
    assert!(!error.message().contains(own.file_name().unwrap().to_str().unwrap()));
}
