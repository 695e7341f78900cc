//! What a worker is and has in hand, in the shapes of Celery's answers.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::plugin::{Catalog, Task};
use crate::store::Broker;
use crate::task::QueueName;
use crate::worker::{InHand, View};

/// The most that the arguments of all tasks in one answer may take, in bytes. Those beyond it are left out, and a
/// text in their place says so.
const MOST_ARGUMENTS: usize = 4 << 20;

/// `stats`. What Celery knows of its pool of processes and we have not is left out.
pub fn stats(view: &View, broker: &Broker, clock: u64, rusage: Value) -> Value {
    json!({
        "total": view.started(),
        "pid": std::process::id(),
        "clock": clock.to_string(),
        "uptime": view.uptime().as_secs(),
        "pool": {
            "implementation": "umbel",
            "max-concurrency": view.slots(),
            "processes": [std::process::id()],
            "max-tasks-per-child": "N/A",
            "put-guarded-by-semaphore": false,
            "timeouts": [0, 0],
        },
        "broker": {
            "hostname": broker.hostname,
            "userid": broker.user,
            "virtual_host": broker.database.to_string(),
            "port": broker.port,
            "ssl": broker.tls,
            "transport": "redis",
        },
        "prefetch_count": view.reach(),
        "rusage": rusage,
    })
}

/// `registered`: the names, each with those of `attributes` that the task has.
pub fn registered(catalog: &Catalog, attributes: &[String]) -> Value {
    let shown = |task: &Task| {
        let known = attributes.iter().filter_map(|name| Some(format!("{name}={}", attribute(task, name)?)));
        let known: Vec<String> = known.collect();
        if known.is_empty() { task.name.clone() } else { format!("{} [{}]", task.name, known.join(" ")) }
    };
    catalog.tasks.values().map(|task| shown(task)).collect()
}

// As Python's `str` shows it; `None` for one that a task has not.
fn attribute(task: &Task, name: &str) -> Option<String> {
    let truth = |is: bool| if is { "True" } else { "False" }.to_owned();
    let seconds = |time: std::time::Duration| time.as_secs_f64().to_string();
    let options = &task.options;
    match name {
        "name" => Some(task.name.clone()),
        "queue" => Some(options.queue.to_string()),
        "priority" => Some(options.priority.0.to_string()),
        "max_retries" => options.max_retries.map(|retries| retries.to_string()),
        "default_retry_delay" => Some(seconds(options.default_retry_delay)),
        "time_limit" => options.time_limit.map(seconds),
        "soft_time_limit" => options.soft_time_limit.map(seconds),
        "expires" => options.expires.map(seconds),
        "ignore_result" => Some(truth(options.ignore_result)),
        "acks_late" => Some(truth(options.acks_late)),
        _ => None,
    }
}

/// `active_queues`: the queues as Celery declares one that it was only told the name of.
pub fn queues(queues: &[QueueName]) -> Value {
    let shown = |queue: &QueueName| {
        json!({
            "name": queue,
            "exchange": {
                "name": queue,
                "type": "direct",
                "arguments": null,
                "durable": true,
                "passive": false,
                "auto_delete": false,
                "delivery_mode": null,
                "no_declare": false,
            },
            "routing_key": queue,
            "queue_arguments": null,
            "binding_arguments": null,
            "consumer_arguments": null,
            "durable": true,
            "exclusive": false,
            "auto_delete": false,
            "no_ack": false,
            "alias": null,
            "bindings": [],
            "no_declare": null,
            "expires": null,
            "message_ttl": null,
            "max_length": null,
            "max_length_bytes": null,
            "max_priority": null,
        })
    };
    queues.iter().map(shown).collect()
}

/// `active` and `reserved`: those tasks, in the hands of the worker `name`.
pub fn tasks(in_hand: &[InHand], name: &str, safe: bool) -> Value {
    let mut left = MOST_ARGUMENTS;
    in_hand.iter().map(|one| task(one, name, safe, &mut left)).collect()
}

/// `query_task`: those of `ids` that the worker `name` has in hand, each with where it stands.
pub fn query(in_hand: &[InHand], ids: &[String], name: &str) -> Value {
    let mut left = MOST_ARGUMENTS;
    let asked = in_hand.iter().filter(|one| ids.iter().any(|id| id == one.message.id.as_str()));
    let stands = |one: &InHand| if one.started_at.is_some() { "active" } else { "reserved" };
    asked
        .map(|one| (one.message.id.to_string(), json!([stands(one), task(one, name, false, &mut left)])))
        .collect::<Map<_, _>>()
        .into()
}

fn task(one: &InHand, name: &str, safe: bool, left: &mut usize) -> Value {
    let message = &one.message;
    let (args, kwargs) = arguments(one, safe, left);
    let time_start = one.started_at.map(|at| at.timestamp_micros() as f64 / 1e6);
    json!({
        "id": message.id,
        "name": message.task,
        "args": args,
        "kwargs": kwargs,
        "type": message.task,
        "hostname": name,
        "time_start": time_start,
        "acknowledged": one.acknowledged,
        "delivery_info": {
            "exchange": "",
            "routing_key": message.queue,
            "priority": message.priority.0,
            "redelivered": one.redelivered,
        },
        "worker_pid": time_start.map(|_| std::process::id()),
    })
}

fn arguments(one: &InHand, safe: bool, left: &mut usize) -> (Value, Value) {
    let said = |text: &str| (json!(text), json!(text));
    let size = one.message.body.len();
    if size > *left {
        return said("<too large to show>");
    }
    let Ok((args, kwargs)) = one.message.arguments() else { return said("<unreadable>") };
    // A compressed body is larger than it seems.
    let size = args.get().len() + kwargs.get().len();
    if size > *left {
        return said("<too large to show>");
    }
    *left -= size;
    let read = |json: &RawValue| serde_json::from_str(json.get()).unwrap_or(Value::Null);
    if safe { (json!(args.get()), json!(kwargs.get())) } else { (read(&args), read(&kwargs)) }
}

#[cfg(test)]
mod tests;
