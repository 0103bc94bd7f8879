//! What every connector is tested with.

pub(crate) mod rows;
pub(crate) mod source_suite;
pub(crate) mod suite;

/// Runs the contract of [`retrofill_core::connector::Target`] against a fresh target each time.
/// `$open` is an expression of type `impl Fn() -> (Arc<dyn Target>, impl Any)`; the second part
/// keeps temporary directories alive. With `source:` the contract of
/// [`retrofill_core::connector::Source`]; the expression then makes a [`source_suite::Given`].
macro_rules! conformance {
    (source: $open:expr) => {
        mod conformance {
            use crate::testkit::source_suite as suite;

            #[tokio::test(flavor = "multi_thread")]
            async fn slices_add_up_to_the_whole() {
                suite::slices_add_up(&$open()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_staged_source_gives_the_same_rows() {
                suite::staged_is_the_same(&$open()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn every_row_can_be_located() {
                suite::rows_can_be_located(&$open()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_change_after_the_survey_is_stale() {
                suite::a_change_is_stale(&$open()).await;
            }

            #[tokio::test]
            async fn what_is_not_there_is_found() {
                suite::what_is_not_there_is_found(&$open()).await;
            }
        }
    };
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
            async fn rows_are_taken_out_and_replaced() {
                $crate::testkit::suite::replaces(&$open).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_shadow_has_the_rows_and_changes_none() {
                suite::shadows(&$open).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn receipts_are_found_by_their_interval() {
                suite::receipts(&$open).await;
            }
        }
    };
}

pub(crate) use conformance;

/// The reference connector passes its own contract.
mod memory {
    mod target {
        crate::testkit::conformance!(target: || {
            let table = std::sync::Arc::new(retrofill_core::memory::MemoryTable::default());
            (table as std::sync::Arc<dyn retrofill_core::connector::Target>, ())
        });
    }

    mod source {
        use std::sync::Arc;

        use retrofill_core::columns::{ColumnType, Precision};
        use retrofill_core::connector::FieldType;
        use retrofill_core::memory::{Line, MemorySource, Value};

        use crate::testkit::source_suite::Given;

        fn given() -> Given<()> {
            let field = |name: &str, ty| FieldType::new(name, ty, true);
            let time = ColumnType::Instant { unit: Precision::Second };
            let columns = vec![field("t", time), field("v", ColumnType::Integer { bits: 64 })];
            let row = |i: i64| Line::Row(vec![Value::Instant(i * 7_919), Value::Integer(i)]);
            let mut lines: Vec<_> = (0..150).map(|i| row(i * 37 % 150)).collect();
            lines.insert(20, Line::Unplaced("no time".into()));
            let source = MemorySource::new(columns, "t", 10, lines).expect("well formed");
            let other = source.clone();
            Given {
                source: Arc::new(source),
                time: "t",
                change: Box::new(move || {
                    other.change(|lines| {
                        lines[40] = Line::Row(vec![Value::Instant(7), Value::Integer(-1)]);
                    });
                }),
                _keep: (),
            }
        }

        crate::testkit::conformance!(source: super::given);
    }
}
