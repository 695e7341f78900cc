//! Native modules: what a script may call beyond its language.
//!
//! Each is one file that registers its functions; what they need of the world they ask of the
//! [`Host`](crate::script::Host) of the running call, never of a store, a queue or a socket. At module level there
//! is no host, and they refuse there. A function that could wait for long waits by
//! [`pause`](crate::script::pause), or leaves the waiting to the host, which knows the deadline.

mod assert;
mod channel;
mod hash;
mod json;
mod kv;
mod log;
mod rand;
mod send;
mod task;
mod text;
mod time;

use rhai::{
    Dynamic, Engine, FuncRegistration, Module, NativeCallContext, Position, RhaiFunc, RhaiNativeFunc, Shared, Variant,
};
use serde::de::DeserializeOwned;

use crate::script::{HostError, Native, begin, brief, to_json, to_typed_json};
use crate::task::Json;

/// The functions whose last argument may be a map of options, each with the names of these.
pub const OPTIONS: [(&str, &[&str]); 2] = [("apply", &send::OPTIONS), ("task::retry", &task::RETRY_OPTIONS)];

/// Registers every native module with `engine`.
pub fn register(engine: &mut Engine) {
    let mut global = Module::new();
    for (name, mut module) in [
        ("channel", channel::module(&mut global)),
        ("hash", hash::module()),
        ("json", json::module()),
        ("kv", kv::module()),
        ("log", log::module(&mut global)),
        ("rand", rand::module(&mut global)),
        ("task", task::module()),
        ("text", text::module()),
        ("time", time::module(&mut global)),
    ] {
        module.build_index();
        engine.register_static_module(name, module.into());
    }
    send::functions(&mut global);
    engine.register_global_module(global.into());
}

/// Registers what only tests of a project may call.
pub fn register_assertions(engine: &mut Engine) {
    let mut global = Module::new();
    assert::functions(&mut global);
    engine.register_global_module(global.into());
}

/// Adds one function by its signature as a script's author reads it, such as `get(key: string) -> any`.
fn add<A: 'static, const N: usize, const X: bool, R, const F: bool, FUNC>(
    module: &mut Module,
    signature: &str,
    doc: &str,
    function: FUNC,
) where
    R: Variant + Clone,
    FUNC: RhaiNativeFunc<A, N, X, R, F> + Send + Sync + 'static,
{
    let (call, returns) = signature.split_once(" -> ").unwrap_or((signature, "()"));
    let (name, params) = call.split_once('(').unwrap_or((call, ""));
    let params = params.trim_end_matches(')').split(", ").filter(|param| !param.is_empty());
    FuncRegistration::new(name)
        .in_internal_namespace()
        .with_params_info(params.chain([returns]))
        .with_comments([format!("/// {doc}")])
        // Volatile: the optimizer must never take the answer of one call for that of all.
        .set_into_module_raw(module, FUNC::param_types(), placed(function.into_rhai_function(true, true)));
}

/// The same function, which does not begin when the script must end or is to be told that its soft time is over; and
/// whose errors know where it was called: rhai forgets that for functions of modules.
fn placed(function: RhaiFunc) -> RhaiFunc {
    let RhaiFunc::Pure { func, is_pure, is_volatile, .. } = function else { return function };
    let func = move |context: Option<NativeCallContext<'_>>, args: &mut [&mut Dynamic]| {
        let at = context.as_ref().map_or(Position::NONE, NativeCallContext::call_position);
        begin().and_then(|()| func(context, args)).map_err(|mut error| {
            if error.position().is_none() {
                error.set_position(at);
            }
            error
        })
    };
    RhaiFunc::Pure { func: Shared::new(func), has_context: true, is_pure, is_volatile }
}

/// A script's value for those who do not know scripts.
fn plain<T: DeserializeOwned>(value: &Dynamic) -> Native<T> {
    read(&to_json(value)?)
}

/// The same for a message, in which blobs are marked as Celery marks bytes.
fn marked<T: DeserializeOwned>(value: &Dynamic) -> Native<T> {
    read(&to_typed_json(value)?)
}

fn read<T: DeserializeOwned>(json: &Json) -> Native<T> {
    serde_json::from_str(json.get()).map_err(|error| wrong("ValueError", error.to_string()))
}

fn wrong(exc_type: &'static str, message: impl Into<String>) -> Box<rhai::EvalAltResult> {
    HostError::new(exc_type, message).into()
}

/// An integer or a float.
fn number(value: &Dynamic, what: &str) -> Native<f64> {
    #[expect(clippy::cast_precision_loss, reason = "an amount, not an identity")]
    value
        .as_int()
        .map(|number| number as f64)
        .or_else(|_| value.as_float())
        .ok()
        .filter(|number| number.is_finite())
        .ok_or_else(|| wrong("TypeError", format!("{what} must be a number, not {}", brief(value, 60))))
}

#[cfg(test)]
mod tests;
