//! The names of the keys that Rust uses; `keys.lua` has those of the scripts.

use crate::task::{Priority, QueueName, TaskId};

/// Messages that could not be read, newest first.
pub const DEAD: &str = "umbel:dead";
/// Ids of tasks by the time they became known.
pub const HISTORY: &str = "umbel:history";
/// Ids of tasks that are not to start, by the time of their revocation.
pub const REVOKED: &str = "umbel:revoked";
/// Ids of running tasks that are to be stopped, by the time of that; also the channel that says so.
pub const TERMINATE: &str = "umbel:terminate";
/// Channel: there is an earlier due time than before.
pub const DUE: &str = "umbel:due";

/// The queues of which nothing is claimed.
pub const PAUSED: &str = "umbel:paused";
/// The code that runs ran, by its hash.
pub const SOURCES: &str = "umbel:sources";
/// Names of workers by the time until which they live for sure.
pub const WORKERS: &str = "umbel:workers";

/// Kombu's list of a queue and a priority step.
pub fn list(queue: &QueueName, step: u8) -> String {
    if step == 0 { queue.to_string() } else { format!("{queue}\u{6}\u{16}{step}") }
}

/// Kombu's lists of a queue, the most urgent first.
pub fn lists(queue: &QueueName) -> impl Iterator<Item = String> {
    Priority::STEPS.into_iter().map(|step| list(queue, step))
}

/// What an idle process was given from a list.
pub fn inbox(process: &str, list: &str) -> String {
    format!("umbel:inbox:{process}:{list}")
}

/// Delayed messages of a queue by due time.
pub fn due(queue: &QueueName) -> String {
    format!("umbel:due:{queue}")
}

/// Claimed messages of a queue by token.
pub fn claimed(queue: &QueueName) -> String {
    format!("umbel:claimed:{queue}")
}

/// What is kept of a task.
pub fn run(id: &TaskId) -> String {
    format!("umbel:run:{id}")
}

/// Celery's result, and the channel on which it is published.
pub fn meta(id: &TaskId) -> String {
    format!("celery-task-meta-{id}")
}

/// Channel: what is kept of the task changed, and no result under Celery's key tells.
pub fn changed(id: &TaskId) -> String {
    format!("umbel:changed:{id}")
}

/// What a worker says of itself.
pub fn worker(name: &str) -> String {
    format!("umbel:worker:{name}")
}

/// A value that scripts share.
pub fn value(key: &str) -> String {
    format!("umbel:kv:{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_use_the_same_names() {
        let scripts = include_str!("keys.lua");
        for name in [DEAD, HISTORY, REVOKED, TERMINATE, DUE, PAUSED, SOURCES, WORKERS] {
            assert!(scripts.contains(&format!("'{name}'")), "{name}");
        }
        let (queue, id) = (QueueName::parse("Q").unwrap(), TaskId::parse("Q").unwrap());
        for name in [due(&queue), claimed(&queue), run(&id), meta(&id), changed(&id), worker("Q")] {
            assert!(scripts.contains(&format!("'{}' ..", name.trim_end_matches('Q'))), "{name}");
        }
        assert!(scripts.contains("'umbel:inbox:' .."));
    }

    #[test]
    fn a_step_has_kombus_list() {
        let names: Vec<String> = lists(&QueueName::default()).collect();

        assert_eq!(names, ["celery", "celery\x06\x163", "celery\x06\x166", "celery\x06\x169"]);
    }
}
