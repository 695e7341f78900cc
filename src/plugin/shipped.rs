//! The tasks in this repository's own `tasks/`, run by the real engine and pool.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{Catalog, Loader};
use crate::script::{Call, Host, HostError, Level, Limits, Pool, from_json};
use crate::task::{Outcome, to_json};

/// Remembers what the script said.
#[derive(Default)]
struct Listener {
    said: Mutex<Vec<String>>,
}

impl Host for Listener {
    fn place(&self) -> &'static str {
        "a test"
    }
    fn log(&self, _level: Level, text: &str) {
        self.said.lock().unwrap().push(text.to_owned());
    }
    fn progress(&self, done: f64, total: f64, _note: Option<String>) -> Result<(), HostError> {
        self.said.lock().unwrap().push(format!("{done}/{total}"));
        Ok(())
    }
}

fn loader() -> (Loader, Arc<Catalog>) {
    let mut loader = Loader::new(env!("CARGO_MANIFEST_DIR").into());
    loader.load();
    let catalog = loader.catalogs().current();
    (loader, catalog)
}

/// What `task` returns and says, given the array `args`.
fn run(task: &str, args: Value) -> (Value, Vec<String>) {
    let (loader, catalog) = loader();
    let task = catalog.task(task).unwrap();
    let args = task.bind(args.as_array().unwrap().clone(), Vec::new()).unwrap();
    let listener = Arc::new(Listener::default());
    let call = Call {
        script: task.script.clone(),
        function: task.function.clone(),
        arguments: Box::new(move || Ok(args.iter().map(|arg| from_json(to_json(arg).get()).unwrap()).collect())),
        this: None,
        host: listener.clone(),
        limits: Limits::default(),
    };
    let finished =
        Pool::new(loader.engine(), "test", 1, Limits::default().memory).start(call).finished.blocking_recv().unwrap();
    let Some(Outcome::Returned(result)) = finished.outcome else { panic!("{:?}", finished.outcome) };
    let said = listener.said.lock().unwrap().clone();
    (serde_json::from_str(result.get()).unwrap(), said)
}

#[test]
fn everything_is_whole() {
    let (_, catalog) = loader();

    assert_eq!(catalog.broken, []);
    assert!(catalog.plugins.iter().all(|plugin| plugin.broken.is_none()));
    for task in catalog.tasks.values() {
        assert!(!task.doc.is_empty(), "`{}` says nothing of itself", task.name);
    }
}

#[test]
fn math_counts() {
    assert_eq!(run("math.add", json!([10, 3])).0, 13);
    assert_eq!(run("math.xsum", json!([[1, 2, 3.5]])).0, 6.5);
    let product = run("math.mul", json!([2, 5])).0.as_i64().unwrap();
    assert!((30..=1000).contains(&product) && product % 10 == 0, "{product}");
}

#[test]
fn words_are_counted_with_progress() {
    let text = format!("To be, or not to be!\n{}그것이 문제로다.", "\n".repeat(1200));

    let (result, said) = run("words.count", json!([text]));

    assert_eq!(result, json!({ "characters": text.chars().count(), "lines": 1202, "words": 8 }));
    let told = ["counting the words of 1202 lines", "1000/1202", "1202/1202", "counted 8 words"];
    assert_eq!(said, told);
    assert_eq!(run("words.count", json!([""])).0, json!({ "characters": 0, "lines": 0, "words": 0 }));
}

#[test]
fn the_most_frequent_words_come_first() {
    let top = |args| run("words.top", args).0;
    let word = |word: &str, count: u32| json!({ "word": word, "count": count });

    assert_eq!(top(json!(["a b B, c c. C", 2])), json!([word("c", 3), word("b", 2)]));
    assert_eq!(top(json!(["b a"])), json!([word("a", 1), word("b", 1)]));
    assert_eq!(top(json!([""])), json!([]));
}
