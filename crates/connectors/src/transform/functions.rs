//! The functions that a transform may call, and why it may not call others.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::{Result, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::{
    AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, Volatility, WindowUDF,
};
use datafusion_functions::core::planner::CoreFunctionPlanner;
use datafusion_functions::datetime::planner::DatetimeFunctionPlanner;
use datafusion_functions::unicode::planner::UnicodeFunctionPlanner;

use retrofill_core::names::nearest;

/// Functions that hang on the row alone, by every name that they have.
static FUNCTIONS: LazyLock<BTreeMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let all = datafusion_functions::all_default_functions();
    let mut by_name = BTreeMap::new();
    for function in all {
        for alias in function.aliases() {
            by_name.insert(alias.clone(), Arc::clone(&function));
        }
        by_name.insert(function.name().to_owned(), function);
    }
    by_name
});

/// Functions of other engines and of ours that see several rows.
const AGGREGATES: [&str; 38] = [
    "any_value",
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "cume_dist",
    "dense_rank",
    "first_value",
    "grouping",
    "lag",
    "last_value",
    "lead",
    "listagg",
    "max",
    "mean",
    "median",
    "min",
    "nth_value",
    "ntile",
    "percent_rank",
    "percentile_cont",
    "rank",
    "row_number",
    "stddev",
    "string_agg",
    "sum",
    "var_pop",
    "variance",
];

/// Functions that make rows of their own.
const MANY: [&str; 4] = ["explode", "generate_series", "range", "unnest"];

/// Functions that cast to types of the engine's own.
const CASTS: [&str; 4] = ["arrow_cast", "arrow_try_cast", "cast_to_type", "try_cast_to_type"];

/// Why a function cannot be called.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// The function of this name.
pub(super) fn find(name: &str) -> std::result::Result<Arc<ScalarUDF>, Refusal> {
    let refuse = |message: String| Err(Refusal { message, hint: None });
    if let Some(function) = FUNCTIONS.get(name) {
        return match function.signature().volatility {
            _ if function.name() == "version" => {
                refuse(format!("`{name}()` gives another value after an update"))
            }
            _ if CASTS.contains(&function.name()) => Err(Refusal {
                message: format!("`{name}` knows types that no table has"),
                hint: Some("write `CAST(.. AS ..)` or `TRY_CAST(.. AS ..)`".into()),
            }),
            Volatility::Immutable => Ok(Arc::clone(function)),
            Volatility::Stable => Err(Refusal {
                message: format!("`{name}()` depends on when it is asked"),
                hint: Some("a rerun must find the same rows; write the time as a text".into()),
            }),
            Volatility::Volatile => Err(Refusal {
                message: format!("`{name}()` gives another value each time it is asked"),
                hint: Some("a rerun must find the same rows".into()),
            }),
        };
    }
    if AGGREGATES.contains(&name) {
        return refuse(format!("`{name}` looks at more than one row"));
    }
    if MANY.contains(&name) {
        return refuse(format!("`{name}` makes several rows of one"));
    }
    let allowed = FUNCTIONS.values().filter(|f| f.signature().volatility == Volatility::Immutable);
    let hint = nearest(name, allowed.map(|f| f.name())).map(|n| format!("did you mean `{n}`?"));
    Err(Refusal { message: format!("there is no function `{name}` in a transform"), hint })
}

/// All that the planner of expressions may know of: functions, and no table.
pub(super) struct Context {
    options: ConfigOptions,
    planners: Vec<Arc<dyn ExprPlanner>>,
}

impl Context {
    pub(super) fn new() -> Self {
        let planners: Vec<Arc<dyn ExprPlanner>> = vec![
            Arc::new(CoreFunctionPlanner::default()),
            Arc::new(DatetimeFunctionPlanner),
            Arc::new(UnicodeFunctionPlanner),
        ];
        Context { options: ConfigOptions::default(), planners }
    }
}

impl ContextProvider for Context {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        plan_err!("`{name}` cannot be read")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        find(name).ok()
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        FUNCTIONS.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
