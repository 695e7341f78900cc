//! What went wrong in a script, told as a Python client understands it: a class, a message, a traceback.

use rhai::{Dynamic, EvalAltResult, Map, Position};

use super::engine::CALL_LEVELS;
use super::{Broken, Host, HostError, Script, brief, to_json};
use crate::task::Failure;

/// How the names begin that rhai gives to closures.
const ANONYMOUS: &str = "anon$";

/// The longest message that is kept, in bytes; the rest is cut.
const MAX_MESSAGE: usize = 16 << 10;

/// The longest name of a class or of its module that is kept, in bytes; the rest is cut.
const MAX_CLASS: usize = 256;

/// The most calls that a traceback shows; of more, the first and the last.
const MAX_FRAMES: usize = 20;

/// The classes of `celery.exceptions` that a host names; its other ones are Python's builtins.
const CELERY: [&str; 7] = [
    "Ignore",
    "MaxRetriesExceededError",
    "NotRegistered",
    "QueueNotFound",
    "Reject",
    "SoftTimeLimitExceeded",
    "TaskRevokedError",
];

impl From<HostError> for Box<EvalAltResult> {
    fn from(error: HostError) -> Self {
        let failure = if CELERY.contains(&error.exc_type) {
            Failure::celery(error.exc_type, error.message)
        } else {
            Failure::builtin(error.exc_type, error.message)
        };
        failure.into()
    }
}

/// As the script would throw it itself.
impl From<Failure> for Box<EvalAltResult> {
    fn from(failure: Failure) -> Self {
        let thrown = Map::from([
            ("exc_type".into(), failure.exc_type.into()),
            ("exc_module".into(), failure.exc_module.into()),
            ("message".into(), failure.exc_message.into()),
        ]);
        EvalAltResult::ErrorRuntime(thrown.into(), Position::NONE).into()
    }
}

/// One call that was going on when it happened.
pub(super) struct Frame {
    pub function: String,
    pub file: String,
    pub at: Position,
}

/// An error without its wrapping: the calls that led to it, outermost first, and what it is.
pub(super) fn unwrap(mut error: EvalAltResult) -> (Vec<Frame>, EvalAltResult) {
    let mut frames = Vec::new();
    loop {
        match error {
            EvalAltResult::ErrorInFunctionCall(function, file, inner, called_at) => {
                if !is_native(&function, &inner, called_at) {
                    let function = if function.starts_with(ANONYMOUS) { "a closure".to_owned() } else { function };
                    frames.push(Frame { function, file, at: inner.position() });
                }
                error = *inner;
            }
            EvalAltResult::ErrorInModule(_, inner, _) => error = *inner,
            root => return (frames, root),
        }
    }
}

/// Whether `function` only calls back, as `map` does. It then stands where what it calls stands; so does a function
/// that calls itself, but under one name.
fn is_native(function: &str, inner: &EvalAltResult, called_at: Position) -> bool {
    matches!(inner, EvalAltResult::ErrorInFunctionCall(called, .., at) if *at == called_at && called != function)
}

/// What came of `error`, which ended `function` of `script`.
pub(super) fn failure(error: EvalAltResult, script: &Script, function: &str) -> Failure {
    let (mut frames, root) = unwrap(error);
    if frames.is_empty() {
        frames.push(Frame { function: function.to_owned(), file: script.file.clone(), at: root.position() });
    }
    let mut failure = name(root, Some(script));
    failure.traceback = Some(traceback(&frames, &failure, script));
    failure
}

/// What an error says, without its place.
pub(super) fn message(root: &EvalAltResult) -> String {
    match root {
        EvalAltResult::ErrorRuntime(value, _) => thrown(value.clone()).exc_message,
        EvalAltResult::ErrorFunctionNotFound(signature, _) => not_found(signature).exc_message,
        EvalAltResult::ErrorStackOverflow(..) => {
            format!("functions call each other more than {CALL_LEVELS} levels deep")
        }
        EvalAltResult::ErrorDataRace(..) => {
            let why = "a closure uses a variable while a function or method works on it";
            format!("{why}: give the closure a copy, as in `let copy = list; list.map(|item| item + copy.len())`")
        }
        root => {
            let text = root.to_string();
            let place = format!(" ({})", root.position());
            text.strip_suffix(&place).unwrap_or(&text).to_owned()
        }
    }
}

/// The failure that an error is, without its traceback.
fn name(root: EvalAltResult, script: Option<&Script>) -> Failure {
    let mut failure = match root {
        EvalAltResult::ErrorRuntime(value, _) => thrown(value),
        EvalAltResult::ErrorFunctionNotFound(signature, _) => {
            script.and_then(|script| wrong_arity(&signature, script)).unwrap_or_else(|| not_found(&signature))
        }
        root => {
            let message = message(&root);
            Failure::builtin(class(&variant(&root), &message), message)
        }
    };
    cut(&mut failure.exc_message, MAX_MESSAGE);
    cut(&mut failure.exc_type, MAX_CLASS);
    cut(&mut failure.exc_module, MAX_CLASS);
    failure
}

/// What a script would catch, named as its end would be named.
///
/// # Errors
/// `error` itself, where the script must end whatever catches it.
pub fn caught(error: Box<EvalAltResult>) -> Result<Failure, Box<EvalAltResult>> {
    if !error.unwrap_inner().is_catchable() {
        return Err(error);
    }
    let (_, root) = unwrap(*error);
    Ok(name(root, None))
}

/// What a script gives as the reason why it wants to be retried.
pub(super) fn retry(mut reason: String) -> Failure {
    cut(&mut reason, MAX_MESSAGE);
    Failure::celery("Retry", reason)
}

fn thrown(value: Dynamic) -> Failure {
    let Some(map) = value.as_map_ref().ok().map(|map| map.clone()) else {
        return Failure::builtin("RuntimeError", shown(&value));
    };
    let text = |name: &str| map.get(name).map(shown).filter(|text| !text.is_empty());
    let message = text("message").or_else(|| text("exc_message"));
    if let Some(exc_type) = text("exc_type") {
        let exc_module = text("exc_module").unwrap_or_else(|| "builtins".to_owned());
        let failure = Failure::new(&exc_module, &exc_type, message.unwrap_or_default());
        return Failure { arguments: arguments(&map), ..failure };
    }
    // rhai gives its own errors to `catch` as such a map; thrown again they are what they were.
    if let (Some(variant), Some(message)) = (text("error"), &message) {
        return Failure::builtin(class(&variant, message), message);
    }
    let text = message.or_else(|| to_json(&value).ok().map(|json| json.get().to_owned()));
    Failure::builtin("RuntimeError", text.unwrap_or_else(|| shown(&value)))
}

// A message that is an array is all arguments of the exception. One that is no JSON is shown only.
fn arguments(map: &Map) -> Option<Vec<serde_json::Value>> {
    let message = map.get("message").or_else(|| map.get("exc_message")).filter(|message| message.is_array())?;
    serde_json::from_str(to_json(message).ok()?.get()).ok()
}

// A little more than is kept, so that it is seen where it was cut.
fn shown(value: &Dynamic) -> String {
    brief(value, MAX_MESSAGE + 4)
}

/// `signature` is what rhai makes of a call: `add (i64, map)`.
fn not_found(signature: &str) -> Failure {
    let (called, given) = parts(signature);
    if called.starts_with(ANONYMOUS) {
        let why = format!(
            "there is no closure that takes ({given}): it has other parameters, or is one that an import returned"
        );
        Failure::builtin("TypeError", why)
    } else if called.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        Failure::builtin("NameError", format!("there is no function `{called}` that takes ({given})"))
    } else {
        Failure::builtin("TypeError", format!("`{called}` cannot be applied to ({given})"))
    }
}

fn parts(signature: &str) -> (&str, &str) {
    let (called, types) = signature.split_once(" (").unwrap_or((signature, ""));
    (called, types.trim_end_matches(')'))
}

/// The same where the script has such a function, with other parameters.
fn wrong_arity(signature: &str, script: &Script) -> Option<Failure> {
    let (called, given) = parts(signature);
    script.wrong_arity(called, if given.is_empty() { 0 } else { given.split(", ").count() })
}

fn variant(error: &EvalAltResult) -> String {
    let shown = format!("{error:?}");
    shown.split('(').next().unwrap_or_default().to_owned()
}

/// The class of Python's that is nearest to an error of rhai's.
fn class(variant: &str, message: &str) -> &'static str {
    match variant {
        "ErrorVariableNotFound" | "ErrorFunctionNotFound" | "ErrorUnboundThis" => "NameError",
        "ErrorModuleNotFound" => "ModuleNotFoundError",
        "ErrorPropertyNotFound" | "ErrorIndexNotFound" => "KeyError",
        "ErrorArrayBounds" | "ErrorStringBounds" | "ErrorBitFieldBounds" => "IndexError",
        "ErrorDotExpr" => "AttributeError",
        "ErrorMismatchDataType"
        | "ErrorMismatchOutputType"
        | "ErrorIndexingType"
        | "ErrorFor"
        | "ErrorNonPureMethodCallOnConstant"
        | "ErrorAssignmentToConstant" => "TypeError",
        "ErrorArithmetic" if message.contains("zero") => "ZeroDivisionError",
        "ErrorArithmetic" if message.contains("overflow") => "OverflowError",
        "ErrorArithmetic" => "ArithmeticError",
        "ErrorStackOverflow" => "RecursionError",
        "ErrorDataTooLarge" => "MemoryError",
        _ => "RuntimeError",
    }
}

fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push_str(" …");
    }
}

/// As Python writes it, innermost call last.
fn traceback(frames: &[Frame], failure: &Failure, script: &Script) -> String {
    let mut text = String::from("Traceback (most recent call last):\n");
    for (index, frame) in frames.iter().enumerate() {
        if frames.len() > MAX_FRAMES && index == MAX_FRAMES / 2 {
            text.push_str(&format!("  … {} more calls …\n", frames.len() - MAX_FRAMES));
        }
        if frames.len() <= MAX_FRAMES || index < MAX_FRAMES / 2 || index >= frames.len() - MAX_FRAMES / 2 {
            show(frame, script, &mut text);
        }
    }
    text.push_str(&failure.exc_type);
    text.push_str(": ");
    text.push_str(&failure.exc_message);
    text
}

fn show(frame: &Frame, script: &Script, text: &mut String) {
    text.push_str(&format!("  {}", frame.file));
    if let Some(line) = frame.at.line() {
        text.push_str(&format!(":{line}"));
        if let Some(column) = frame.at.position() {
            text.push_str(&format!(":{column}"));
        }
    }
    text.push_str(&format!(" in {}\n", frame.function));
    for line in script.excerpt(&frame.file, frame.at).iter().flat_map(|excerpt| excerpt.lines()) {
        text.push_str(&format!("    {line}\n"));
    }
}

/// The failure that a panic in native code is.
pub(super) fn panicked(panic: &(dyn std::any::Any + Send), host: &dyn Host) -> Failure {
    let what = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned());
    Failure::builtin("SystemError", format!("native code panicked in {}: {what}", host.place()))
}

impl Script {
    /// The calls that a failure of this script happened in, the innermost last, each with its place, its line and
    /// the name of its function; empty when the failure has no traceback.
    pub fn calls(&self, failure: &Failure) -> Vec<Broken> {
        let Some(traceback) = &failure.traceback else { return Vec::new() };
        let end = format!("{}: {}", failure.exc_type, failure.exc_message);
        let calls = traceback.strip_suffix(&end).unwrap_or(traceback);
        calls.lines().filter_map(|line| self.read(line)).collect()
    }

    /// What [`show`] has written; `None` for any other line of a traceback.
    fn read(&self, line: &str) -> Option<Broken> {
        let line = line.strip_prefix("  ").filter(|line| !line.starts_with([' ', '…']))?;
        let (place, function) = line.rsplit_once(" in ")?;
        let Some((rest, last)) = numbered(place) else { return Some(Broken::whole(place, function.to_owned())) };
        let (file, line, column) = match numbered(rest) {
            Some((file, line)) => (file, line, Some(last)),
            None => (rest, last, None),
        };
        let source = self.sources.get(file).map_or("", |source| source);
        Some(Broken::at(file, source, line, column, function.to_owned()))
    }
}

/// `a:5` in its two parts.
fn numbered(place: &str) -> Option<(&str, u32)> {
    let (rest, number) = place.rsplit_once(':')?;
    Some((rest, number.parse().ok()?))
}
