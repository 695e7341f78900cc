//! The road of one delivery: admit - acknowledge - perform - judge - settle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use rhai::Dynamic;
use tracing::{debug, error, warn};

use super::host::TaskHost;
use super::meters;
use super::running::Entry;
use super::{Backoff, Floor};
use crate::plugin::Task;
use crate::script::{Call, Finished, StopReason, Ticket, from_typed_json};
use crate::store::{self, Attempt, Delivery, Ending, Settled, Settlement, worker_lost};
use crate::task::{Failure, Followers, Json, Message, Sender, Timestamp, Verdict, judge};

/// A delivery that has not begun to run after this is given back: others may have room.
const START_WITHIN: Duration = Duration::from_secs(1);

/// What a store refuses so often, for some seconds, it will never take; then the task fails instead.
const REFUSALS: u32 = 8;

/// What one attempt came to.
enum Performed {
    Ended(Finished),
    /// It never started.
    NotStarted,
}

/// What is done about an attempt, and what is sent in the same step.
struct Judged {
    verdict: Verdict,
    follow_ups: Vec<Message>,
}

impl From<Verdict> for Judged {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, follow_ups: Vec::new() }
    }
}

impl Performed {
    fn took(&self) -> Duration {
        match self {
            Self::Ended(finished) => finished.took,
            Self::NotStarted => Duration::ZERO,
        }
    }
}

/// Runs one delivery to its end, whatever that is.
pub async fn run(floor: &Arc<Floor>, delivery: Delivery) {
    let claimed = Instant::now();
    let (task, meter) = match admit(floor, &delivery) {
        Ok(task) => {
            let meter = floor.meters.known(&task.name);
            (task, meter)
        }
        Err(verdict) => {
            floor.meters.unknown().settled(&verdict);
            let follow_ups = match *verdict {
                Verdict::Failure(_) => errbacks(floor, &delivery.message),
                _ => Vec::new(),
            };
            let judged = Judged { verdict: *verdict, follow_ups };
            floor.journal.settled(&delivery.message, &judged.verdict, Duration::ZERO);
            return settle(floor, settlement(delivery, judged, Attempt::default())).await;
        }
    };
    meter.received();
    floor.journal.received(&delivery.message);
    // Boxed, as `put_back` is: thousands wait here, and each has the size of the largest step that is not.
    if !task.options.acks_late && !Box::pin(acknowledge(floor, &delivery)).await {
        return;
    }
    let host = Arc::new(TaskHost::new(floor.clone(), &delivery, &task, meter.clone(), claimed));
    let performed = perform(floor, &task, &delivery, host.clone()).await;
    let mut attempt = host.attempt(&task);
    if attempt.started_at.is_some() {
        meter.ended(performed.took());
    }
    let Performed::Ended(Finished { outcome, took, .. }) = performed else {
        // All slots are busy for that long: what was claimed by the pace of short tasks would come and go.
        floor.pace.note(START_WITHIN);
        return put_back(floor, delivery).await;
    };
    floor.pace.note(took);
    let message = &delivery.message;
    let verdict = match outcome {
        Some(outcome) => judge(outcome, &task.options, message.max_retries, message.retries, &mut rand::rng()),
        // It was stopped half-way, and may not run again.
        None if !task.options.acks_late && attempt.started_at.is_some() => Verdict::Failure(worker_lost()),
        None => return put_back(floor, delivery).await,
    };
    let judged = follow(floor, &host, verdict);
    if matches!(judged.verdict, Verdict::Success(_)) {
        attempt.children.extend(judged.follow_ups.iter().map(|follower| follower.id.clone()));
    }
    meter.settled(&judged.verdict);
    floor.journal.settled(&delivery.message, &judged.verdict, took);
    settle(floor, settlement(delivery, judged, attempt)).await;
}

/// The task of `delivery`, or what becomes of it when it may not start.
fn admit(floor: &Floor, delivery: &Delivery) -> Result<Arc<Task>, Box<Verdict>> {
    if delivery.expired {
        return Err(Box::new(Verdict::Revoked { reason: "expired" }));
    }
    let catalog = floor.client.catalogs().current();
    catalog
        .task(&delivery.message.task)
        .cloned()
        .ok_or_else(|| Box::new(Verdict::Failure(Failure::celery("NotRegistered", delivery.message.task.clone()))))
}

/// False when the task may not run after all.
async fn acknowledge(floor: &Floor, delivery: &Delivery) -> bool {
    let mut backoff = Backoff::new();
    loop {
        // Asked again it answers the same, so that it does not matter whether the first time arrived.
        match floor.client.stores().queue.acknowledge(&delivery.receipt).await {
            Ok(Settled::Stored) => return true,
            Ok(Settled::LeaseLost) => return false,
            Err(cause) => {
                meters::store_failed();
                if backoff.is_first() && !cause.is_told() {
                    let Message { id, task, .. } = &*delivery.message;
                    warn!(task.id = %id, "cannot acknowledge {task}[{id}], trying again: {cause}");
                }
                if !backoff.pause(&floor.stopping).await {
                    put_back(floor, delivery.clone()).await;
                    return false;
                }
            }
        }
    }
}

async fn perform(floor: &Arc<Floor>, task: &Arc<Task>, delivery: &Delivery, host: Arc<TaskHost>) -> Performed {
    let message = host.message().clone();
    let started_at = host.started_at().clone();
    let (bound, reader) = (task.clone(), host.clone());
    let mut ticket = floor.pool.start(Call {
        script: task.script.clone(),
        function: task.function.clone(),
        arguments: Box::new(move || arguments(&bound, &reader)),
        this: None,
        host,
        limits: floor.settings.limits.of(&delivery.message, &task.options),
    });
    let entry = Entry {
        stop: ticket.stop.clone(),
        message,
        redelivered: delivery.redelivered,
        acknowledged: !task.options.acks_late,
        started_at,
    };
    floor.running.begin(delivery.receipt.token, entry);
    let performed = attend(floor, &mut ticket).await;
    floor.running.end(delivery.receipt.token);
    performed
}

async fn attend(floor: &Floor, ticket: &mut Ticket) -> Performed {
    tokio::select! {
        biased;
        finished = &mut ticket.finished => return ended(finished.ok()),
        () = tokio::time::sleep(START_WITHIN) => {}
        () = floor.stopping.cancelled() => {}
    }
    if ticket.withdraw() {
        return Performed::NotStarted;
    }
    tokio::select! {
        finished = &mut ticket.finished => return ended(finished.ok()),
        () = floor.hurry.cancelled() => ticket.stop.stop(StopReason::Shutdown),
    }
    ended((&mut ticket.finished).await.ok())
}

// A thread that is gone says nothing; its task is as good as not started.
fn ended(finished: Option<Finished>) -> Performed {
    finished.map_or(Performed::NotStarted, Performed::Ended)
}

// On the script's thread, because a large body takes its time to read.
fn arguments(task: &Task, host: &TaskHost) -> Result<Vec<Dynamic>, Failure> {
    let (args, kwargs, embed) =
        host.message().read_body::<Vec<Json>, BTreeMap<String, Json>>().map_err(|defect| defect.failure())?;
    if !embed.is_empty() {
        let (followers, readable) = Followers::read(&embed);
        host.followed_by(followers);
        readable?;
    }
    let args = args.into_iter().map(|json| from_typed_json(json.get())).collect::<Result<_, _>>()?;
    let named = |(name, json): (String, Json)| Ok((name, from_typed_json(json.get())?));
    let kwargs = kwargs.into_iter().map(named).collect::<Result<_, Failure>>()?;
    task.bind(args, kwargs).map_err(|error| Failure::builtin("TypeError", format!("{}() {error}", task.name)))
}

// Of a task that fails without having been read here.
fn errbacks(floor: &Floor, message: &Message) -> Vec<Message> {
    let declared = |task: &str| floor.client.declared(task);
    Followers::of_unread(message, Sender { origin: floor.client.origin(), now: Utc::now(), declared: &declared })
}

// Nothing follows a retry or a revocation, as with Celery.
fn follow(floor: &Floor, host: &TaskHost, verdict: Verdict) -> Judged {
    let Some(followers) = host.followers() else { return verdict.into() };
    let declared = |task: &str| floor.client.declared(task);
    let sender = Sender { origin: floor.client.origin(), now: Utc::now(), declared: &declared };
    let failed = |why| {
        let follow_ups = followers.after_failure(host.message(), sender);
        Judged { verdict: Verdict::Failure(why), follow_ups }
    };
    match verdict {
        Verdict::Success(value) => match followers.after_success(host.message(), &value, sender) {
            Ok(follow_ups) => Judged { verdict: Verdict::Success(value), follow_ups },
            Err(much) => failed(Failure::builtin("MemoryError", much.to_string())),
        },
        Verdict::Failure(why) => failed(why),
        verdict @ (Verdict::Retry { .. } | Verdict::Revoked { .. }) => verdict.into(),
    }
}

async fn put_back(floor: &Floor, delivery: Delivery) {
    Box::pin(floor.give_back(vec![delivery], Duration::ZERO, &floor.hurry)).await;
}

/// What is to be written of an attempt that has just ended.
fn settlement(delivery: Delivery, judged: Judged, attempt: Attempt) -> Arc<Settlement> {
    let Judged { verdict, follow_ups } = judged;
    let now = Utc::now();
    Arc::new(Settlement {
        ending: ending(&delivery.message, verdict, now, attempt.ignore_result),
        attempt: Attempt { finished_at: Some(now), ..attempt },
        follow_ups,
        delivery,
    })
}

/// Writes the verdict. While the store is away it tries again: what was done should not be done twice. A store that
/// answers and refuses may do so because of what is to be written; then what is written in the end is only that.
async fn settle(floor: &Floor, mut settlement: Arc<Settlement>) {
    let mut backoff = Backoff::new();
    let mut refused = 0;
    loop {
        let receipt = &settlement.delivery.receipt;
        match floor.client.stores().queue.settle(settlement.clone()).await {
            Ok(Settled::Stored) => return,
            // What failed before may have arrived all the same, and ended the lease itself.
            Ok(Settled::LeaseLost) if !backoff.is_first() => {
                debug!(task.id = %receipt.id, "task {} is settled, by the try before or by who has it now", receipt.id);
                return;
            }
            Ok(Settled::LeaseLost) => {
                warn!(task.id = %receipt.id, "the lease of task {} was lost: another process runs it", receipt.id);
                return;
            }
            Err(cause) => {
                meters::store_failed();
                if backoff.is_first() && !cause.is_told() {
                    error!(task.id = %receipt.id, "cannot store what came of task {}, trying again: {cause}", receipt.id);
                }
                refused += u32::from(matches!(cause, store::Error::Other(_)));
                if refused == REFUSALS {
                    let follow_ups = errbacks(floor, &settlement.delivery.message);
                    settlement = Arc::new(Settlement { follow_ups, ..unstorable(&settlement, &cause) });
                } else if refused == 2 * REFUSALS && !settlement.follow_ups.is_empty() {
                    // Perhaps it is one of these that the store does not take.
                    let (id, number) = (&settlement.delivery.receipt.id, settlement.follow_ups.len());
                    error!(task.id = %id, "the store refuses the {number} errbacks of task {id}, so they are not sent");
                    Arc::make_mut(&mut settlement).follow_ups.clear();
                }
                if !backoff.pause(&floor.hurry).await {
                    return;
                }
            }
        }
    }
}

// As little as can be said of an attempt whose outcome the store does not take.
fn unstorable(settlement: &Settlement, cause: &store::Error) -> Settlement {
    let Settlement { delivery, attempt, .. } = settlement;
    let id = &delivery.receipt.id;
    error!(task.id = %id, "the store refuses what came of task {id}, so it fails");
    let why = Failure::celery("BackendStoreError", format!("what came of it cannot be stored: {cause}"));
    let attempt = Attempt { log: Vec::new(), children: Vec::new(), ..attempt.clone() };
    Settlement { ending: Ending::Failure(why), attempt, follow_ups: Vec::new(), delivery: delivery.clone() }
}

fn ending(message: &Message, verdict: Verdict, now: Timestamp, ignore_result: bool) -> Ending {
    match verdict {
        Verdict::Success(value) => Ending::Success { result: (!ignore_result).then_some(value) },
        Verdict::Failure(why) => Ending::Failure(why),
        Verdict::Revoked { reason } => Ending::Revoked { reason },
        Verdict::Retry { countdown, why } => {
            let wait = chrono::Duration::from_std(countdown).unwrap_or(chrono::Duration::MAX);
            let due = now.checked_add_signed(wait).unwrap_or(Timestamp::MAX_UTC);
            Ending::Retry { next: Box::new(message.retry(due)), why }
        }
    }
}
