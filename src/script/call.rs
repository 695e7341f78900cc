//! One call, from its first operation to its outcome, on the thread that runs it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rhai::{Dynamic, Engine, EvalAltResult, NativeCallContext};

use super::limit::{self, Ending};
use super::{Call, Finished, Limits, Script, Stop, StopReason, failure, memory, to_typed_json, value};
use crate::task::{Failure, Json, Outcome, show_duration};

/// What `this` may take that is kept after a call, in bytes: more than [`value::may_be_kept`] allows, which counts JSON.
const MAX_STATE: usize = 64 << 20;

/// Runs `call` to its end, whatever that is.
pub(super) fn run(engine: &Engine, call: Call, stop: &Stop) -> Finished {
    let began = Instant::now();
    let Call { script, function, arguments, mut this, host, limits } = call;
    if let Some(reason) = stop.reason() {
        return Finished { outcome: stopped(reason), this, took: Duration::ZERO };
    }
    if script.left.bytes() > limits.memory.as_u64() {
        return Finished { outcome: Some(Outcome::OverLimit(too_much_left(&script))), this, took: Duration::ZERO };
    }
    let entered = limit::enter(&limits, stop.clone(), Some(host.clone()));
    // Nothing that a panic leaves half done is used again but `this`, a value of the script's own making.
    let done = catch_unwind(AssertUnwindSafe(|| {
        host.started();
        let arguments = arguments()?;
        let before = memory::held();
        let done = perform(engine, &script, &function, arguments, this.as_mut());
        let state = if this.is_some() { MAX_STATE } else { 0 };
        // A text may have twice the room that it takes.
        let kept = done.as_ref().map_or_else(|failure| 2 * memory::size_of_copy(failure), |json| json.get().len());
        script.left.add(before, state + kept);
        done
    }))
    .unwrap_or_else(|panic| Err(failure::panicked(&*panic, &*host)));
    let outcome = match entered.ending() {
        Some(ending) => ended(ending, done, &limits),
        None => Some(done.map_or_else(Outcome::Raised, Outcome::Returned)),
    };
    drop(entered);
    let this = this.filter(value::may_be_kept);
    Finished { outcome, this, took: began.elapsed() }
}

fn too_much_left(script: &Script) -> Failure {
    let message = format!(
        "earlier runs of `{}` left {} that nothing frees, more than a run may hold: a closure and a variable that it has \
         captured hold each other; set the variable to () before the function ends, and save it so",
        script.file,
        bytesize::ByteSize(script.left.bytes()),
    );
    Failure::builtin("MemoryError", message)
}

/// The ending counts, not what the script made of it: it may have caught what a callback wrapped.
fn ended(ending: Ending, done: Result<Json, Failure>, limits: &Limits) -> Option<Outcome> {
    let traceback = done.err().and_then(|failure| failure.traceback);
    let over = |why: Failure| Some(Outcome::OverLimit(at(traceback.clone(), why)));
    match ending {
        Ending::Stopped(reason) => stopped(reason),
        Ending::TimedOut => {
            let limit = show_duration(limits.time_limit);
            let message = format!("the time limit of {limit} was exceeded");
            over(Failure::new("billiard.exceptions", "TimeLimitExceeded", message))
        }
        Ending::OutOfMemory => {
            let place = if limits.of_plugin { "its plugin's plugin.toml" } else { "umbel.toml" };
            let message = format!(
                "the memory limit of {} was exceeded; `memory` under `[limits]` in {place} raises it",
                limits.memory
            );
            over(Failure::builtin("MemoryError", message))
        }
        Ending::OutOfOperations => {
            let most = limits.operations.unwrap_or_default();
            let message = format!(
                "the limit of {most} operations was exceeded; `operations` under `[limits]` in umbel.toml raises it"
            );
            over(Failure::new("umbel.exceptions", "OperationLimitExceeded", message))
        }
        Ending::Retry { countdown, max_retries, reason } => {
            let why = at(traceback.clone(), failure::retry(reason));
            Some(Outcome::RetryAsked { countdown, max_retries, why })
        }
    }
}

/// `why`, under the calls of a traceback whose last line says what rhai calls it.
fn at(traceback: Option<String>, why: Failure) -> Failure {
    let traceback = traceback.map(|traceback| {
        let calls = traceback.rsplit_once('\n').map_or("", |(calls, _)| calls);
        format!("{calls}\n{}: {}", why.exc_type, why.exc_message)
    });
    Failure { traceback, ..why }
}

fn stopped(reason: StopReason) -> Option<Outcome> {
    (reason == StopReason::Revoked).then_some(Outcome::Revoked)
}

/// What is wrong with a value is wrong with the result.
fn of_result(why: Failure) -> Failure {
    let exc_message = match why.exc_message.strip_prefix("the value ") {
        Some(rest) => format!("the result {rest}"),
        None => why.exc_message,
    };
    Failure { exc_message, ..why }
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
        Ok(value) | Err(EvalAltResult::Exit(value, _)) => to_typed_json(&value).map_err(of_result),
        Err(error) => Err(failure::failure(error, script, function)),
    }
}
