//! One call, from its first operation to its outcome, on the thread that runs it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rhai::{Dynamic, Engine, EvalAltResult, NativeCallContext};

use super::limit::{self, Ending, Stop, StopReason};
use super::{Call, Finished, Script, failure, to_json, value};
use crate::task::{Failure, Json, Outcome, show_duration};

/// Runs `call` to its end, whatever that is.
pub(super) fn run(engine: &Engine, call: Call, stop: &Stop) -> Finished {
    let began = Instant::now();
    let Call { script, function, arguments, mut this, host, time_limit } = call;
    if let Some(reason) = stop.reason() {
        return Finished { outcome: stopped(reason), this, took: Duration::ZERO };
    }
    let entered = limit::enter(began.checked_add(time_limit), stop.clone(), Some(host.clone()));
    // Nothing that a panic leaves half done is used again but `this`, a value of the script's own making.
    let done = catch_unwind(AssertUnwindSafe(|| {
        host.started();
        let arguments = arguments()?;
        perform(engine, &script, &function, arguments, this.as_mut())
    }))
    .unwrap_or_else(|panic| Err(failure::panicked(&*panic, &*host)));
    let outcome = match entered.ending() {
        Some(ending) => ended(ending, done, time_limit),
        None => Some(done.map_or_else(Outcome::Raised, Outcome::Returned)),
    };
    drop(entered);
    let this = this.filter(value::may_be_kept);
    Finished { outcome, this, took: began.elapsed() }
}

/// The ending counts, not what the script made of it: it may have caught what a callback wrapped.
fn ended(ending: Ending, done: Result<Json, Failure>, time_limit: Duration) -> Option<Outcome> {
    let traceback = done.err().and_then(|failure| failure.traceback);
    match ending {
        Ending::Stopped(reason) => stopped(reason),
        Ending::TimedOut => {
            let limit = show_duration(time_limit);
            let message = format!("the time limit of {limit} was exceeded");
            let why = Failure::new("billiard.exceptions", "TimeLimitExceeded", message);
            Some(Outcome::TimedOut(Failure { traceback, ..why }))
        }
        Ending::Retry { countdown, max_retries, reason } => {
            let why = Failure { traceback, ..failure::retry(reason) };
            Some(Outcome::RetryAsked { countdown, max_retries, why })
        }
    }
}

fn stopped(reason: StopReason) -> Option<Outcome> {
    (reason == StopReason::Revoked).then_some(Outcome::Revoked)
}

fn perform(
    engine: &Engine,
    script: &Script,
    function: &str,
    mut arguments: Vec<Dynamic>,
    this: Option<&mut Dynamic>,
) -> Result<Json, Failure> {
    let position = script.entry(function, arguments.len())?;
    let mut global = engine.new_global_runtime_state();
    global.lib.push(script.module.clone());
    global.source = Some(script.shown.clone());
    // Errors that know no place, as that of a time limit, get the beginning of the function.
    let context = NativeCallContext::new_with_all_fields(engine, function, Some(&script.file), &global, position);
    let as_method = this.is_some();
    let mut values: Vec<&mut Dynamic> = this.into_iter().chain(arguments.iter_mut()).collect();
    match context.call_fn_raw(function, as_method, as_method, &mut values).map_err(|error| *error) {
        Ok(value) | Err(EvalAltResult::Exit(value, _)) => to_json(&value),
        Err(error) => Err(failure::failure(error, script, function)),
    }
}
