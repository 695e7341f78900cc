//! Scripts: Rhai code that is not ours, compiled once, run on threads of its own, stopped when its time is over.
//!
//! A [`Script`] is one file, compiled and its module level evaluated: immutable, and called by any number of threads
//! at once through the one engine. A [`Pool`] runs [`Call`]s of it. What a running script may ask of the world goes
//! through the [`Host`] of its call, which native functions find on their thread by [`host()`].
//!
//! A script is never trusted to end, to be small or to be right: it meets its deadline and a [`Stop`] at its next
//! operation, whatever it catches; what it returns is JSON or a failure; a panic in native code is one failure.
//! This room never runs a script on a thread of tokio's, and knows no store, no queue and no socket.

mod call;
mod engine;
mod excerpt;
mod failure;
mod fields;
mod guarded;
mod host;
mod import;
mod kept;
mod limit;
mod limits;
mod lint;
mod load;
mod memory;
mod options;
mod parse;
mod pool;
mod stop;
mod typed;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use rhai::Position;

pub use engine::engine;
pub use failure::caught;
pub use fields::{Fields, duration_of};
pub use guarded::{brief, literal, same};
pub use host::{Host, HostError, Level, SocketHost, Submission, TaskFacts};
pub use import::{PluginModule, Reads, Roots};
pub use limit::{begin, go_on, host, pause, reserve, retry, step, time_left, wait_for};
pub use limits::Limits;
pub use lint::{Finding, Lint, Refusal, Sent, Severity};
pub use memory::{CountingAllocator, outside};
pub use options::Declaration;
pub use pool::{Arguments, Call, Finished, Pool, Ticket};
pub use stop::{Stop, StopReason};
pub use value::{MAX_JSON, from_json, from_typed_json, to_json, to_typed_json};

use crate::task::Failure;

/// What a native function returns to the script.
pub type Native<T> = Result<T, Box<rhai::EvalAltResult>>;

/// One file of Rhai code, compiled and its module level evaluated. Immutable: a save makes another one.
pub struct Script {
    /// Its path from the project's folder, with `/`, as tracebacks show it: `tasks/math.rhai`.
    pub file: String,
    /// Hash of its source and of everything it imports, in hex.
    pub hash: Arc<str>,
    /// Its `//!` lines.
    pub doc: String,
    /// Its functions by line, without closures, private ones included.
    pub functions: Vec<Function>,
    /// Its calls of `task()` at module level, in order.
    pub declarations: Vec<Declaration>,
    /// The files it imports, directly or not.
    pub imports: Vec<PathBuf>,
    module: Arc<rhai::Module>,
    /// `file` as rhai shares it between calls.
    shown: rhai::ImmutableString,
    entries: HashMap<String, BTreeMap<usize, Position>>,
    /// Its text and those of its imports, by the name that tracebacks show.
    sources: HashMap<String, Arc<str>>,
    left: memory::Left,
}

impl Script {
    /// Where the public function that takes `arguments` arguments begins.
    fn entry(&self, function: &str, arguments: usize) -> Result<Position, Failure> {
        match self.entries.get(function).and_then(|overloads| overloads.get(&arguments)) {
            Some(position) => Ok(*position),
            None => Err(self.wrong_arity(function, arguments).unwrap_or_else(|| {
                Failure::builtin("NameError", format!("`{}` has no public function `{function}`", self.file))
            })),
        }
    }

    /// Says how many arguments `function` takes; `None` when there is no such function.
    fn wrong_arity(&self, function: &str, given: usize) -> Option<Failure> {
        let overloads: Vec<String> = self
            .functions
            .iter()
            .filter(|known| known.name == function && known.params.len() != given)
            .map(|known| format!("({})", known.params.join(", ")))
            .collect();
        let taken = overloads.join(" or ");
        (!overloads.is_empty())
            .then(|| Failure::builtin("TypeError", format!("`{function}` takes {taken}; {given} were given")))
    }

    fn excerpt(&self, file: &str, position: Position) -> Option<String> {
        excerpt::excerpt(self.sources.get(file)?, position.line()?, position.position())
    }

    /// Its text and those of its imports as they were read, by their paths from the project's folder.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        self.sources.iter().map(|(file, source)| (file.as_str(), &**source))
    }

    /// Nothing is written in this file.
    pub fn is_empty(&self) -> bool {
        self.sources.get(&self.file).is_none_or(|source| source.trim().is_empty())
    }

    /// Says that something in this file is wrong.
    pub fn broken(&self, line: u32, column: Option<u32>, message: String) -> Broken {
        let source = self.sources.get(&self.file).map_or("", |source| source);
        Broken::at(&self.file, source, line, column, message)
    }

    /// The options of one of its declarations, and the function named by its `run`.
    ///
    /// # Errors
    /// Names the option that is unknown, not built yet or of a wrong form, where it is declared.
    pub fn options(&self, declaration: &Declaration) -> Result<(crate::task::Options, Option<String>), Broken> {
        declaration.options().map_err(|message| self.broken(declaration.line, Some(declaration.column), message))
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Script").field("file", &self.file).field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// One function of a script. Overloads are functions of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub params: Vec<String>,
    /// Its `///` lines without the slashes.
    pub doc: String,
    pub private: bool,
    /// 1-based line where its body begins.
    pub line: u32,
    /// 1-based line where it ends.
    pub last_line: u32,
}

/// A script that cannot be used, and where it is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("{file}{}: {message}", place(.line, .column))]
pub struct Broken {
    pub file: String,
    /// 1-based.
    pub line: Option<u32>,
    /// 1-based.
    pub column: Option<u32>,
    pub message: String,
    /// The line of the source with a mark under the column.
    pub excerpt: Option<String>,
}

impl Broken {
    /// Something wrong in `file`, whose text is `source`. Line and column are 1-based. What is missed at the end of
    /// the text is missed behind its last word.
    pub fn at(file: &str, source: &str, line: u32, column: Option<u32>, message: String) -> Self {
        let (line, column) = excerpt::within(source, line, column);
        let excerpt = excerpt::excerpt(source, line as usize, column.map(|column| column as usize));
        Self { file: file.to_owned(), line: Some(line), column, message, excerpt }
    }

    /// Something wrong with `file` as a whole.
    pub fn whole(file: &str, message: String) -> Self {
        Self { file: file.to_owned(), line: None, column: None, message, excerpt: None }
    }
}

fn place(line: &Option<u32>, column: &Option<u32>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!(":{line}:{column}"),
        (Some(line), None) => format!(":{line}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
