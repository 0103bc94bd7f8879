//! Work on a sequence, side by side, with results in the sequence's order and bounded memory.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use retrofill_core::error::{Error, Result};

/// Threads that compute: the cores, at most eight.
pub(super) fn threads() -> usize {
    thread::available_parallelism().map_or(1, |n| n.get().min(8))
}

/// Takes items from `next`, one caller at a time, works on them on all cores, and gives the
/// results to `done` in the items' order. At most two items per thread are under way. The first
/// failure in the items' order ends it.
pub(crate) fn ordered<T: Send, R: Send>(
    next: impl FnMut() -> Result<Option<T>> + Send,
    work: impl Fn(T) -> Result<R> + Sync,
    mut done: impl FnMut(R) -> Result<()>,
) -> Result<()> {
    let threads = threads();
    let (give_token, tokens) = sync_channel::<()>(2 * threads);
    for () in vec![(); 2 * threads] {
        give_token.send(()).map_err(|_| Error::bug("the tokens have no taker"))?;
    }
    let source = Mutex::new((0, next, tokens));
    let (give, take) = channel();
    let (source, work) = (&source, &work);
    thread::scope(move |scope| {
        for _ in 0..threads {
            let give = give.clone();
            scope.spawn(move || worker(source, work, &give));
        }
        drop(give);
        let result = collect(take, &give_token, &mut done);
        // A worker that waits for a token ends.
        drop(give_token);
        result
    })
}

type Shared<F> = Mutex<(u64, F, Receiver<()>)>;

fn worker<T, R>(
    source: &Shared<impl FnMut() -> Result<Option<T>>>,
    work: &impl Fn(T) -> Result<R>,
    give: &Sender<(u64, Result<R>)>,
) {
    loop {
        let (number, item) = {
            // A panic elsewhere is passed on by the scope; this thread only has to end.
            let Ok(mut source) = source.lock() else { return };
            let (number, next, tokens) = &mut *source;
            if tokens.recv().is_err() {
                return;
            }
            *number += 1;
            (*number - 1, next())
        };
        let result = match item {
            Ok(Some(item)) => work(item),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        if give.send((number, result)).is_err() {
            return;
        }
    }
}

fn collect<R>(
    take: Receiver<(u64, Result<R>)>,
    give_token: &SyncSender<()>,
    done: &mut impl FnMut(R) -> Result<()>,
) -> Result<()> {
    let mut early = BTreeMap::new();
    let mut wanted = 0;
    for (number, result) in take {
        early.insert(number, result);
        while let Some(result) = early.remove(&wanted) {
            done(result?)?;
            wanted += 1;
            // All workers may have ended by now.
            let _ = give_token.try_send(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order() {
        let mut items = 0..10_000_u64;
        let mut got = Vec::new();
        let work = |n: u64| {
            if n.is_multiple_of(7) {
                thread::yield_now();
            }
            Ok(n * 2)
        };
        ordered(
            || Ok(items.next()),
            work,
            |n| {
                got.push(n);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(got, (0..10_000).map(|n| n * 2).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_failure_ends_it() {
        let mut items = 0..10_000;
        let mut got = 0;
        let fail = |n| if n >= 100 { Err(Error::config(format!("{n}"))) } else { Ok(n) };
        let error = ordered(
            || Ok(items.next()),
            fail,
            |_| {
                got += 1;
                Ok(())
            },
        )
        .unwrap_err();
        assert_eq!((error.message(), got), ("100", 100));
    }
}
