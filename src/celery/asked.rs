//! What a command asks for, in Celery's words (`celery/worker/control.py`).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::python;
use crate::store::Command;
use crate::task::TaskId;

/// The most tasks that one command may name. One that names more is refused whole.
pub const MOST_IDS: usize = 10_000;

/// Of the revocations that a starting worker tells, so many are taken over: its latest.
const MOST_TOLD: usize = 1_000;

/// A command that is understood.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    Ping,
    Clock,
    Stats,
    /// Names of tasks; `attributes` are shown with each.
    Registered {
        attributes: Vec<String>,
    },
    ActiveQueues,
    /// What runs. `safe`: the arguments as text.
    Active {
        safe: bool,
    },
    Reserved,
    Scheduled,
    QueryTask(Vec<String>),
    Revoked,
    Revoke {
        ids: BTreeSet<TaskId>,
        terminate: bool,
    },
    /// A worker starts, and tells what it knows to be revoked.
    Hello {
        from: String,
        revoked: Vec<TaskId>,
    },
}

/// Why a command is not done: what Celery says in its `error`.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl Refused {
    fn exception(class: &str, argument: &str) -> Self {
        Self(python::exception(class, argument))
    }
}

impl Asked {
    /// What `command` asks for.
    ///
    /// # Errors
    /// What Celery answers to a command that it does not know, that lacks an argument, or that its worker was not
    /// started for.
    pub fn of(command: &Command) -> Result<Self, Refused> {
        let method = command.method.as_str();
        let arguments = Arguments { method, given: &command.arguments };
        Ok(match method {
            "ping" => Self::Ping,
            "clock" => Self::Clock,
            "stats" => Self::Stats,
            "registered" | "registered_tasks" | "dump_tasks" => {
                Self::Registered { attributes: arguments.texts("taskinfoitems") }
            }
            "active_queues" => Self::ActiveQueues,
            "active" | "dump_active" => Self::Active { safe: arguments.is_set("safe") },
            "reserved" | "dump_reserved" => Self::Reserved,
            "scheduled" | "dump_schedule" => Self::Scheduled,
            "query_task" => Self::QueryTask(bounded(strings(arguments.needed("ids")?))?),
            "revoked" | "dump_revoked" => Self::Revoked,
            "revoke" => Self::Revoke { ids: arguments.ids()?, terminate: arguments.is_set("terminate") },
            "terminate" => Self::Revoke { ids: arguments.ids()?, terminate: true },
            "hello" => Self::Hello { from: arguments.text("from_node")?, revoked: arguments.told() },
            // What Celery says of a worker without events, without `--autoscale` and without restarts of its pool.
            "enable_events" | "disable_events" | "heartbeat" => {
                return Err(Refused("event dispatcher unavailable".to_owned()));
            }
            "autoscale" => return Err(Refused::exception("ValueError", "Autoscale not enabled")),
            "pool_restart" => return Err(Refused::exception("ValueError", "Pool restarts not enabled")),
            unknown => return Err(Refused::exception("KeyError", unknown)),
        })
    }

    /// An answer is all that comes of it.
    pub fn is_question(&self) -> bool {
        !matches!(self, Self::Revoke { .. } | Self::Hello { .. })
    }
}

struct Arguments<'a> {
    method: &'a str,
    given: &'a Map<String, Value>,
}

impl Arguments<'_> {
    fn needed(&self, name: &str) -> Result<&Value, Refused> {
        self.given.get(name).ok_or_else(|| {
            let method = self.method;
            Refused::exception("TypeError", &format!("{method}() missing 1 required positional argument: '{name}'"))
        })
    }

    // As Python takes a value for true.
    fn is_set(&self, name: &str) -> bool {
        match self.given.get(name) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(set)) => *set,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(values)) => !values.is_empty(),
            Some(Value::Object(fields)) => !fields.is_empty(),
        }
    }

    fn text(&self, name: &str) -> Result<String, Refused> {
        let text = self.needed(name)?.as_str().map(str::to_owned);
        text.ok_or_else(|| Refused::exception("TypeError", &format!("{name} must be a string")))
    }

    fn texts(&self, name: &str) -> Vec<String> {
        self.given.get(name).map(strings).unwrap_or_default()
    }

    fn ids(&self) -> Result<BTreeSet<TaskId>, Refused> {
        let given = bounded(strings(self.needed("task_id")?))?;
        let read = |id: String| {
            TaskId::parse(&id).map_err(|why| Refused::exception("ValueError", &format!("the task id {why}")))
        };
        given.into_iter().map(read).collect()
    }

    // A worker may have been told things that no task can be called.
    fn told(&self) -> Vec<TaskId> {
        let mut told = self.texts("revoked");
        let latest = told.split_off(told.len().saturating_sub(MOST_TOLD));
        latest.iter().filter_map(|id| TaskId::parse(id).ok()).collect()
    }
}

// One text, or the texts of a list.
fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(values) => values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn bounded(ids: Vec<String>) -> Result<Vec<String>, Refused> {
    if ids.len() > MOST_IDS {
        return Err(Refused::exception("ValueError", &format!("{MOST_IDS} tasks are the most for one command")));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(method: &str, arguments: Value) -> Result<Asked, String> {
        let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        Asked::of(&Command { method: method.to_owned(), arguments, ..Command::default() }).map_err(|refused| refused.0)
    }

    fn ids(ids: &[&str]) -> BTreeSet<TaskId> {
        ids.iter().map(|id| TaskId::parse(id).unwrap()).collect()
    }

    #[test]
    fn a_revocation_names_one_task_or_several() {
        for (task_id, expected) in
            [(json!("a"), &["a"][..]), (json!(["a", "b", "a"]), &["a", "b"]), (json!([]), &[]), (json!(null), &[])]
        {
            let asked = asked("revoke", json!({ "task_id": task_id, "terminate": false, "signal": "SIGTERM" }));
            assert_eq!(asked, Ok(Asked::Revoke { ids: ids(expected), terminate: false }));
        }
        let terminate = Ok(Asked::Revoke { ids: ids(&["a"]), terminate: true });
        assert_eq!(asked("revoke", json!({ "task_id": "a", "terminate": true })), terminate);
        assert_eq!(asked("terminate", json!({ "task_id": "a", "signal": "KILL" })), terminate);
    }

    #[test]
    fn what_cannot_be_done_is_refused_in_celerys_words() {
        for (method, arguments, error) in [
            ("frobnicate", json!({}), "KeyError('frobnicate')"),
            ("shutdown", json!({}), "KeyError('shutdown')"),
            ("pool_grow", json!({ "n": 1 }), "KeyError('pool_grow')"),
            ("autoscale", json!({ "max": 3 }), "ValueError('Autoscale not enabled')"),
            ("enable_events", json!({}), "event dispatcher unavailable"),
            ("revoke", json!({}), r#"TypeError("revoke() missing 1 required positional argument: 'task_id'")"#),
            ("revoke", json!({ "task_id": [""] }), "ValueError('the task id is empty')"),
            (
                "query_task",
                json!({ "ids": vec!["x"; MOST_IDS + 1] }),
                "ValueError('10000 tasks are the most for one command')",
            ),
        ] {
            assert_eq!(asked(method, arguments), Err(error.to_owned()), "{method}");
        }
    }

    #[test]
    fn of_what_a_starting_worker_tells_the_latest_counts() {
        let told: Vec<String> = (0..MOST_TOLD + 5).map(|n| n.to_string()).collect();

        let Ok(Asked::Hello { from, revoked }) = asked("hello", json!({ "from_node": "w2@demo", "revoked": told }))
        else {
            panic!("it is understood")
        };

        assert_eq!((from.as_str(), revoked.len(), revoked[0].as_str()), ("w2@demo", MOST_TOLD, "5"));
    }
}
