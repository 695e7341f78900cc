//! Scripts under test, run by the real engine and pool for a host that remembers what it was asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::{register, register_assertions};
use crate::script::{
    Broken, Call, Finished, Host, HostError, Level, Limits, Pool, Roots, Script, SocketHost, Submission, TaskFacts,
    engine,
};
use crate::task::{Failure, Json, Outcome, TaskId, to_json};

/// The value of the last line of `script`, as JSON.
pub(super) fn evaluate(script: &str) -> String {
    Room::default().run(script).unwrap()
}

/// How `script` fails.
pub(super) fn fails(script: &str) -> Failure {
    Room::default().fails(script)
}

/// A place where scripts run.
pub(super) struct Room {
    witness: Arc<Witness>,
    limits: Limits,
    asserts: bool,
}

impl Default for Room {
    fn default() -> Self {
        let limits = Limits { time_limit: Duration::from_secs(60), ..Limits::default() };
        Self { witness: Arc::default(), limits, asserts: false }
    }
}

#[derive(Default)]
struct Witness {
    consumer: bool,
    lines: Mutex<Vec<String>>,
    submissions: Mutex<Vec<Submission>>,
    values: Mutex<HashMap<String, String>>,
}

impl Room {
    pub(super) fn consumer() -> Self {
        Self { witness: Arc::new(Witness { consumer: true, ..Witness::default() }), ..Self::default() }
    }

    /// What runs here may assert.
    pub(super) fn for_tests() -> Self {
        Self { asserts: true, ..Self::default() }
    }

    pub(super) fn with_time_limit(self, time_limit: Duration) -> Self {
        Self { limits: Limits { time_limit, ..self.limits }, ..self }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.witness.lines.lock().unwrap().clone()
    }

    pub(super) fn submissions(&self) -> Vec<Submission> {
        self.witness.submissions.lock().unwrap().clone()
    }

    pub(super) fn run(&self, body: &str) -> Result<String, Failure> {
        self.call(&format!("fn main() {{\n{body}\n}}"), "main")
    }

    pub(super) fn fails(&self, body: &str) -> Failure {
        self.run(body).unwrap_err()
    }

    pub(super) fn call(&self, source: &str, function: &str) -> Result<String, Failure> {
        match self.finish(source, function).outcome {
            Some(Outcome::Returned(json)) => Ok(json.get().to_owned()),
            Some(Outcome::Raised(failure)) => Err(failure),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn outcome(&self, body: &str) -> Option<Outcome> {
        self.finish(&format!("fn main() {{\n{body}\n}}"), "main").outcome
    }

    /// That `body`, which never ends by itself, meets a time limit, and that it is soon stopped then.
    #[track_caller]
    pub(super) fn is_stopped_in_time(body: &str) {
        let limit = Duration::from_secs(1);
        let room = Self::default().with_time_limit(limit);

        let finished = room.finish(&format!("fn main() {{\n{body}\n}}"), "main");

        let outcome = finished.outcome;
        assert!(
            matches!(&outcome, Some(Outcome::OverLimit(why)) if why.exc_type == "TimeLimitExceeded"),
            "{body}: {outcome:?}"
        );
        // Some milliseconds in a release.
        assert!(finished.took < limit + Duration::from_millis(1500), "{body}: {:?}", finished.took);
    }

    fn finish(&self, source: &str, function: &str) -> Finished {
        let script = load(source).unwrap();
        let mut equipped = engine();
        register(&mut equipped);
        if self.asserts {
            register_assertions(&mut equipped);
        }
        let call = Call {
            script: Arc::new(script),
            function: function.to_owned(),
            arguments: Box::new(|| Ok(vec![])),
            this: None,
            host: self.witness.clone(),
            limits: self.limits,
        };
        Pool::new(Arc::new(equipped), "test", 1, self.limits.memory).start(call).finished.blocking_recv().unwrap()
    }
}

fn load(source: &str) -> Result<Script, Broken> {
    let mut equipped = engine();
    register(&mut equipped);
    Script::load(&equipped, &Roots::default(), "tasks/room.rhai", source)
}

impl Witness {
    fn say(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }
}

impl SocketHost for Witness {
    fn accept(&self) -> Result<(), HostError> {
        self.say("accept".to_owned());
        Ok(())
    }

    fn close(&self, code: u16) -> Result<(), HostError> {
        self.say(format!("close {code}"));
        Ok(())
    }

    fn send(&self, frame: String) -> Result<(), HostError> {
        self.say(format!("frame {frame}"));
        Ok(())
    }

    fn group_add(&self, group: &str) -> Result<(), HostError> {
        self.say(format!("add {group}"));
        Ok(())
    }

    fn group_discard(&self, group: &str) -> Result<(), HostError> {
        self.say(format!("discard {group}"));
        Ok(())
    }
}

impl Host for Witness {
    fn place(&self) -> &'static str {
        if self.consumer { "a consumer" } else { "a task" }
    }

    fn task(&self) -> Option<Arc<TaskFacts>> {
        (!self.consumer).then(|| {
            Arc::new(TaskFacts {
                id: TaskId::parse("t1").unwrap(),
                name: "room.test".to_owned(),
                retries: 2,
                args: to_json(&serde_json::json!([1, "a"])),
                kwargs: to_json(&serde_json::json!({ "k": null })),
                root_id: Some(TaskId::parse("r1").unwrap()),
                parent_id: None,
                group_id: Some("g1".to_owned()),
            })
        })
    }

    fn socket(&self) -> Option<&dyn SocketHost> {
        self.consumer.then_some(self)
    }

    fn may_sleep(&self) -> bool {
        !self.consumer
    }

    fn log(&self, level: Level, text: &str) {
        self.say(format!("{level:?} {text}"));
    }

    fn progress(&self, done: f64, total: f64, note: Option<String>) -> Result<(), HostError> {
        self.say(format!("{done}/{total} {note:?}"));
        Ok(())
    }

    fn submit(&self, submission: Submission) -> Result<TaskId, HostError> {
        if submission.task == "unknown" {
            return Err(HostError::new("NotRegistered", "no task named `unknown`"));
        }
        let mut submissions = self.submissions.lock().unwrap();
        submissions.push(submission);
        Ok(TaskId::parse(&format!("id-{}", submissions.len())).unwrap())
    }

    fn group_send(&self, group: &str, event: Value) -> Result<(), HostError> {
        self.say(format!("to {group} {event}"));
        Ok(())
    }

    fn kv_get(&self, key: &str) -> Result<Option<Json>, HostError> {
        let values = self.values.lock().unwrap();
        Ok(values.get(key).map(|text| serde_json::value::RawValue::from_string(text.clone()).unwrap()))
    }

    fn kv_set(&self, key: &str, value: Json, _ttl: Option<Duration>, only_new: bool) -> Result<bool, HostError> {
        let mut values = self.values.lock().unwrap();
        if only_new && values.contains_key(key) {
            return Ok(false);
        }
        values.insert(key.to_owned(), value.get().to_owned());
        Ok(true)
    }

    fn kv_incr(&self, key: &str, by: i64) -> Result<i64, HostError> {
        let mut values = self.values.lock().unwrap();
        let sum = values.get(key).map_or(0, |text| text.parse::<i64>().unwrap()) + by;
        values.insert(key.to_owned(), sum.to_string());
        Ok(sum)
    }

    fn kv_delete(&self, key: &str, expected: Option<Json>) -> Result<bool, HostError> {
        let mut values = self.values.lock().unwrap();
        if expected.is_some_and(|expected| values.get(key).map(String::as_str) != Some(expected.get())) {
            return Ok(false);
        }
        Ok(values.remove(key).is_some())
    }
}

#[test]
fn at_module_level_only_declarations_and_pure_functions_work() {
    for line in [
        r#"info("a");"#,
        r#"log::warn("a");"#,
        "sleep(0);",
        r#"delay("a.b", []);"#,
        r#"apply("a.b", [], #{});"#,
        r#"kv::get("a");"#,
        r#"kv::lock("a", 1);"#,
        "task::id();",
        "task::retry();",
        "task::time_left();",
        "accept();",
        r#"group_send("g", #{ type: "x" });"#,
    ] {
        let broken = load(&format!("fn main() {{ }}\n{line}")).unwrap_err();
        assert!(broken.message.contains("works only while a function runs"), "{line}: {broken}");
        assert_eq!((broken.line, broken.file.as_str()), (Some(2), "tasks/room.rhai"), "{line}");
    }
    let script = load(
        r#"const A = hash::sha256("x"); const B = json::parse("[1]"); task("main", #{ priority: 3 }); fn main() { }"#,
    );
    assert_eq!(script.unwrap().declarations.len(), 1);
}

#[test]
fn no_answer_is_taken_for_that_of_all_calls() {
    let mut equipped = engine();
    register(&mut equipped);
    equipped.set_optimization_level(rhai::OptimizationLevel::Full);
    for ask in
        ["time::now()", "rand()", "text::words(\"a b\")", "split(\"a b\", \" \")", "blob(3)", "parse_json(\"1\")"]
    {
        let compiled = equipped.compile(ask).unwrap();

        let mut asks = false;
        compiled.walk(&mut |path: &[rhai::ASTNode<'_>]| {
            use rhai::{ASTNode, Expr, Stmt};
            asks |= matches!(path.last(), Some(ASTNode::Expr(Expr::FnCall(..)) | ASTNode::Stmt(Stmt::FnCall(..))));
            true
        });
        assert!(asks, "{ask} was asked by the optimizer: {:?}", compiled.statements());
    }
}

#[test]
fn a_callback_has_the_host_of_its_call() {
    let room = Room::default();

    room.run("[1, 2].map(|n| { info(n); [n].map(|m| log::warn(m)); n })").unwrap();

    assert_eq!(room.lines(), ["Info 1", "Warn 1", "Info 2", "Warn 2"]);
}

#[test]
fn a_running_script_declares_nothing() {
    assert!(fails(r#"task("main", #{})"#).exc_message.contains("move the line out of the function"));
}

#[test]
fn an_alias_cannot_hide_a_native_module() {
    for name in ["channel", "hash", "json", "kv", "log", "rand", "task", "text", "time"] {
        let broken = load(&format!("import \"_lib/x\" as {name};")).unwrap_err();
        assert!(broken.message.contains("would hide the built-in module"), "{name}: {broken}");
    }
}

#[test]
fn every_function_says_what_it_does() {
    let mut equipped = engine();
    register(&mut equipped);

    let definitions = equipped.definitions().include_standard_packages(false).single_file();

    assert!(
        definitions.contains("fn hmac_sha256(key: string | blob, data: string | blob) -> string;"),
        "{definitions}"
    );
    let (functions, docs) = (definitions.matches("\nfn ").count(), definitions.matches("/// ").count());
    assert!(docs >= functions && functions > 10, "{functions} functions, {docs} docs");
}
