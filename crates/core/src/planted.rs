//! Bugs on purpose. The simulation builds them in, one at a time, and must catch each: a
//! verifier that cannot fail proves nothing. Without the feature `planted` every check is a
//! constant `false`.

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each name says what is done wrong")]
pub enum Bug {
    SkipReadBack,
    SkipHeld,
    LedgerBeforeCommit,
    StaleFenceAccepted,
    HalfOpenOffByOne,
    RejectUncounted,
    RetryWithoutAbort,
    ReceiptOfOtherGeneration,
    SaltLost,
    ConflictOverwritten,
    DuplicateKept,
    ArrivalsIgnored,
    UnknownTakenForCommitted,
    StaleBlockAccepted,
    MissingReceiptIgnored,
    ExceptionsLost,
    SkipBarrier,
    ArrivalsUnproven,
    ListNotRenamed,
    AppendedTwice,
    RemovedUncounted,
    ScopeIgnored,
    UndoTakesLive,
    UndoTakenForLoad,
    RestatesOthers,
    OldValuesLost,
    OverwritesListed,
    CompareIgnored,
    GaveWayForgotten,
    HeldUnproven,
}

/// All of them.
pub const ALL: [Bug; 30] = [
    Bug::SkipReadBack,
    Bug::SkipHeld,
    Bug::LedgerBeforeCommit,
    Bug::StaleFenceAccepted,
    Bug::HalfOpenOffByOne,
    Bug::RejectUncounted,
    Bug::RetryWithoutAbort,
    Bug::ReceiptOfOtherGeneration,
    Bug::SaltLost,
    Bug::ConflictOverwritten,
    Bug::DuplicateKept,
    Bug::ArrivalsIgnored,
    Bug::UnknownTakenForCommitted,
    Bug::StaleBlockAccepted,
    Bug::MissingReceiptIgnored,
    Bug::ExceptionsLost,
    Bug::SkipBarrier,
    Bug::ArrivalsUnproven,
    Bug::ListNotRenamed,
    Bug::AppendedTwice,
    Bug::RemovedUncounted,
    Bug::ScopeIgnored,
    Bug::UndoTakesLive,
    Bug::UndoTakenForLoad,
    Bug::RestatesOthers,
    Bug::OldValuesLost,
    Bug::OverwritesListed,
    Bug::CompareIgnored,
    Bug::GaveWayForgotten,
    Bug::HeldUnproven,
];

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug on this thread, or takes it out.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.with(|cell| cell.set(bug));
}

/// Whether this bug is planted.
#[cfg(feature = "planted")]
pub fn is(bug: Bug) -> bool {
    PLANTED.with(|cell| cell.get() == Some(bug))
}

/// Whether this bug is planted: never in this build.
#[cfg(not(feature = "planted"))]
#[inline]
pub const fn is(_: Bug) -> bool {
    false
}
