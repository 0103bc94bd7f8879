//! What every connector is tested with.

pub(crate) mod suite;

/// Runs the contract of [`retrofill_core::connector::Target`] against a fresh target each time.
/// `$open` is an expression of type `impl Fn() -> (Arc<dyn Target>, impl Any)`; the second part
/// keeps temporary directories alive.
macro_rules! conformance {
    (target: $open:expr) => {
        mod conformance {
            use crate::testkit::suite;

            #[tokio::test(flavor = "multi_thread")]
            async fn a_table_is_created_once_and_keeps_its_columns() {
                suite::creates(&$open).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_slice_is_visible_after_commit_and_not_before() {
                suite::commits(&$open).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_load_that_is_dropped_or_aborted_leaves_nothing() {
                suite::leaves_nothing(&$open).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn one_generation_is_committed_once() {
                suite::once(&$open).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn intervals_are_half_open() {
                suite::half_open(&$open).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn rows_that_arrive_meanwhile_are_handed_over() {
                suite::arrivals(&$open).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn hostile_values_come_back_equal() {
                suite::hostile(&$open).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn receipts_are_found_by_their_interval() {
                suite::receipts(&$open).await;
            }
        }
    };
}

pub(crate) use conformance;
