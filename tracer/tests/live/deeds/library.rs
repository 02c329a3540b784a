//! The library where it is not permitted to trace.

use serde_json::json;

use super::Deed;
use crate::support::Truth;

pub(super) const DEEDS: &[(&str, Deed)] = &[("library-start", start)];

/// Starts a trace, and writes down why it does not start.
fn start(truth: Truth, _: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let error = runtime.block_on(tracer::Tracer::builder().start()).expect_err("it is not permitted");
    truth.say(
        "refused",
        json!({ "kind": format!("{:?}", error.kind()), "remedy": error.remedy(), "text": error.to_string() }),
    );
}
