//! The names of the keys that Rust uses; `keys.lua` has those of the scripts.

use crate::task::{Priority, QueueName, TaskId};

/// The names as one installation has them: several may share a Redis, each behind a prefix of its own, which is
/// Celery's `global_keyprefix`. It stands in front of keys and channels.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
    result_prefix: String,
}

impl Keys {
    pub fn new(prefix: &str) -> Self {
        // Celery parts the prefix of its results from their name where nothing else does, and that of queues not.
        let parted = prefix.is_empty() || prefix.ends_with([':', '_', '-', '.']);
        let result_prefix = if parted { prefix.to_owned() } else { format!("{prefix}_") };
        Self { prefix: prefix.to_owned(), result_prefix }
    }

    /// What stands in front of every key but Celery's results.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What stands in front of Celery's results.
    pub fn result_prefix(&self) -> &str {
        &self.result_prefix
    }

    fn own(&self, name: impl std::fmt::Display) -> String {
        format!("{}umbel:{name}", self.prefix)
    }

    /// Messages that could not be read, newest first.
    pub fn dead(&self) -> String {
        self.own("dead")
    }

    /// Written for a moment to see whether Redis can be written.
    pub fn probe(&self) -> String {
        self.own("probe")
    }

    /// Ids of tasks by the time they became known.
    pub fn history(&self) -> String {
        self.own("history")
    }

    /// Ids of tasks that are not to start, by the time of their revocation.
    pub fn revoked(&self) -> String {
        self.own("revoked")
    }

    /// Ids of tasks that came back from a dead process.
    pub fn redelivered(&self) -> String {
        self.own("redelivered")
    }

    /// Ids of running tasks that are to be stopped, by the time of that; also the channel that says so.
    pub fn terminate(&self) -> String {
        self.own("terminate")
    }

    /// Channel: there is an earlier due time than before.
    pub fn earlier_due(&self) -> String {
        self.own("due")
    }

    /// The queues of which nothing is claimed.
    pub fn paused(&self) -> String {
        self.own("paused")
    }

    /// The code that runs ran, by its hash.
    pub fn sources(&self) -> String {
        self.own("sources")
    }

    /// Names of workers by the time until which they live for sure.
    pub fn workers(&self) -> String {
        self.own("workers")
    }

    /// Kombu's lists of a queue, the most urgent step first.
    pub fn lists(&self, queue: &QueueName) -> impl Iterator<Item = String> {
        Priority::STEPS.into_iter().map(move |step| format!("{}{}", self.prefix, of_step(queue, step)))
    }

    /// What an idle process was given from a list.
    pub fn inbox(&self, process: &str, list: &str) -> String {
        self.own(format_args!("inbox:{process}:{list}"))
    }

    /// What one claim of a process was granted, for as long as its lease.
    pub fn granted(&self, process: &str, claim: usize) -> String {
        self.own(format_args!("granted:{process}:{claim}"))
    }

    /// The envelopes of a batch, the oldest first.
    pub fn claimed(&self, batch: u64) -> String {
        self.own(format_args!("claimed:{batch}"))
    }

    /// Those of a batch that are in hand, by their numbers.
    pub fn open(&self, batch: u64) -> String {
        self.own(format_args!("open:{batch}"))
    }

    /// What is kept of a task.
    pub fn run(&self, id: &TaskId) -> String {
        self.own(format_args!("run:{id}"))
    }

    /// Celery's result, and the channel on which it is published.
    pub fn meta(&self, id: &TaskId) -> String {
        format!("{}celery-task-meta-{id}", self.result_prefix)
    }

    /// Channel: what is kept of the task changed, and no result under Celery's key tells.
    pub fn changed(&self, id: &TaskId) -> String {
        self.own(format_args!("changed:{id}"))
    }

    /// What a worker says of itself.
    pub fn worker(&self, name: &str) -> String {
        self.own(format_args!("worker:{name}"))
    }

    /// Channel: kombu's, for remote control of everyone who works.
    pub fn pidbox(&self, database: i64) -> String {
        format!("{}/{database}.celery.pidbox", self.prefix)
    }

    /// A value that scripts share.
    pub fn value(&self, key: &str) -> String {
        self.own(format_args!("kv:{key}"))
    }
}

// As kombu names it.
fn of_step(queue: &QueueName, step: u8) -> String {
    if step == 0 { queue.to_string() } else { format!("{queue}\u{6}\u{16}{step}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_use_the_same_names() {
        let scripts = include_str!("keys.lua");
        let keys = Keys::new("");
        for name in [
            keys.history(),
            keys.revoked(),
            keys.redelivered(),
            keys.terminate(),
            keys.earlier_due(),
            keys.paused(),
            keys.sources(),
            keys.workers(),
            keys.dead(),
        ] {
            assert!(scripts.contains(&format!("= PREFIX .. '{name}'")), "{name}");
        }
        let id = TaskId::parse("Q").unwrap();
        for name in
            [keys.run(&id), keys.changed(&id), keys.worker("Q"), keys.inbox("", ""), keys.open(7), keys.claimed(7)]
        {
            assert!(
                scripts
                    .contains(&format!("PREFIX .. '{}' ..", name.trim_end_matches([':', 'Q', '7']).to_owned() + ":")),
                "{name}"
            );
        }
        assert!(scripts.contains("RESULT_PREFIX .. 'celery-task-meta-' .."));
    }

    #[test]
    fn a_step_has_kombus_list() {
        let names = |prefix| Keys::new(prefix).lists(&QueueName::default()).collect::<Vec<_>>();

        assert_eq!(names(""), ["celery", "celery\x06\x163", "celery\x06\x166", "celery\x06\x169"]);
        assert_eq!(names("shop")[..2], ["shopcelery", "shopcelery\x06\x163"]);
    }

    #[test]
    fn a_prefix_stands_where_celery_puts_it() {
        let id = TaskId::parse("i").unwrap();

        assert_eq!(Keys::new("shop").meta(&id), "shop_celery-task-meta-i");
        assert_eq!(Keys::new("shop:").meta(&id), "shop:celery-task-meta-i");
        assert_eq!(Keys::new("").meta(&id), "celery-task-meta-i");
        assert_eq!(Keys::new("shop").run(&id), "shopumbel:run:i");
    }
}
