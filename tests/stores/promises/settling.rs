use std::time::Duration;

use chrono::{SubsecRound, Utc};
use serde_json::{Value, json};
use umbel::store::{Attempt, Delivery, Ending, Settled};
use umbel::task::{Embed, Failure, Followers, LogLine, Message, NewMessage, Options, Sender, State, to_json};

use crate::place::{
    Place, SHORT_LEASE, assert_nothing_comes, claim, claim_one, claim_with_sweeps, draft, five, id, ids, load, message,
    messages, open, open_with_short_leases, push, settle, settlement, state,
};

pub async fn a_success_is_kept_with_everything_about_it<P: Place>() {
    let place: P = open().await;
    let sent = NewMessage { parent_id: Some(id("parent")), root_id: Some(id("root")), ..draft("m1") };
    push(place.stores(), vec![sent.build()]).await;
    let delivery = claim_one(place.stores()).await;
    let started_at = Utc::now().trunc_subsecs(3);
    let finished_at = started_at + Duration::from_millis(17);
    let attempt = Attempt {
        started_at: Some(started_at),
        finished_at: Some(finished_at),
        code: Some("c0de".into()),
        log: vec![LogLine { at: started_at, level: "warn".into(), text: "almost".into() }],
        children: vec![id("child")],
        ignore_result: false,
    };

    let settled =
        place.stores().queue.settle(umbel::store::Settlement { attempt, ..settlement(&delivery, five()) }.into());
    assert_eq!(settled.await.unwrap(), Settled::Stored);

    let run = load(place.stores(), "m1").await;
    assert_eq!((run.state, run.result.unwrap().get()), (State::Success, "5"));
    assert_eq!((run.id, run.task.as_str(), run.queue.as_str(), run.priority), (id("m1"), "math.add", "celery", 0));
    assert_eq!((run.started_at, run.finished_at), (Some(started_at), Some(finished_at)));
    assert!(run.queued_at.unwrap() <= Utc::now() && run.queued_at.unwrap() > Utc::now() - Duration::from_secs(600));
    assert_eq!((run.code.as_deref(), run.worker.as_deref()), (Some("c0de"), Some("umbel@localhost")));
    assert_eq!((run.log[0].text.as_str(), run.log[0].level.as_str()), ("almost", "warn"));
    assert_eq!((run.children, run.parent_id, run.root_id), (vec![id("child")], Some(id("parent")), Some(id("root"))));
    assert_eq!((run.retries, run.error, run.progress), (0, None, None));
}

pub async fn a_failure_is_kept_with_its_error<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let why = Failure { traceback: Some("tasks/math.rhai:1:2".into()), ..Failure::builtin("ValueError", "no such") };

    settle(place.stores(), &claim_one(place.stores()).await, Ending::Failure(why.clone())).await;

    let run = load(place.stores(), "m1").await;
    assert_eq!((run.state, run.error), (State::Failure, Some(why)));
    assert!(run.result.is_none());
}

pub async fn a_revoked_attempt_is_kept_with_its_reason<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;

    settle(place.stores(), &claim_one(place.stores()).await, Ending::Revoked { reason: "terminated" }).await;

    let run = load(place.stores(), "m1").await;
    assert_eq!(run.state, State::Revoked);
    let error = run.error.unwrap();
    assert_eq!((error.exc_type.as_str(), error.exc_message.as_str()), ("TaskRevokedError", "terminated"));
}

pub async fn a_retry_waits_and_comes_back_counted<P: Place>() {
    let place: P = open().await;
    push(place.stores(), vec![NewMessage { parent_id: Some(id("sender")), ..draft("m1") }.build()]).await;
    let first = claim_one(place.stores()).await;
    let due = (Utc::now() + Duration::from_millis(500)).trunc_subsecs(3);
    let why = Failure::builtin("ValueError", "later");

    let next = Box::new(first.message.retry(due));
    assert_eq!(settle(place.stores(), &first, Ending::Retry { next, why: why.clone() }).await, Settled::Stored);

    let waiting = load(place.stores(), "m1").await;
    assert_eq!((waiting.state, waiting.retries, waiting.eta), (State::Retry, 1, Some(due)));
    assert_eq!(waiting.error, Some(why));
    assert_eq!(waiting.parent_id, Some(id("sender")), "it is not its own parent");
    let again = claim_one(place.stores()).await;
    assert!(Utc::now() >= due);
    assert_eq!((again.receipt.id.clone(), again.message.retries), (id("m1"), 1));
    assert_eq!(again.message.body, first.message.body);
    assert!(!again.redelivered);
    assert_nothing_comes(place.stores()).await;
}

pub async fn an_ignored_result_is_not_kept<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let delivery = claim_one(place.stores()).await;
    let attempt = Attempt { ignore_result: true, ..Attempt::default() };

    let ending = Ending::Success { result: None };
    let settled =
        place.stores().queue.settle(umbel::store::Settlement { attempt, ..settlement(&delivery, ending) }.into());

    assert_eq!(settled.await.unwrap(), Settled::Stored);
    let run = load(place.stores(), "m1").await;
    assert_eq!(run.state, State::Success);
    assert!(run.result.is_none());
}

pub async fn a_delivery_is_settled_once<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let delivery = claim_one(place.stores()).await;

    let failure = Ending::Failure(Failure::builtin("ValueError", "late"));
    assert_eq!(settle(place.stores(), &delivery, five()).await, Settled::Stored);
    assert_eq!(settle(place.stores(), &delivery, failure).await, Settled::LeaseLost);
    place.stores().queue.put_back(vec![delivery], Duration::ZERO).await.unwrap();

    assert_eq!(state(place.stores(), "m1").await, State::Success);
    assert_nothing_comes(place.stores()).await;
}

pub async fn of_racing_settlements_one_counts<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let delivery = claim_one(place.stores()).await;

    let racers = (0..16).map(|number| {
        let follow_ups = vec![message(&format!("follow-up-{number}"))];
        place.stores().queue.settle(umbel::store::Settlement { follow_ups, ..settlement(&delivery, five()) }.into())
    });
    let all = futures_util::future::join_all(racers).await;

    assert_eq!(all.into_iter().filter(|settled| *settled.as_ref().unwrap() == Settled::Stored).count(), 1);
    assert_eq!(claim(place.stores(), 100).await.len(), 1);
}

pub async fn follow_ups_are_pushed_in_the_same_step<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let delivery = claim_one(place.stores()).await;

    let follow_ups = messages(&["m2", "m3"]);
    let settled =
        place.stores().queue.settle(umbel::store::Settlement { follow_ups, ..settlement(&delivery, five()) }.into());

    assert_eq!(settled.await.unwrap(), Settled::Stored);
    assert_eq!(ids(&claim(place.stores(), 10).await), ["m2", "m3"]);
}

pub async fn a_lost_lease_pushes_no_follow_ups<P: Place>() {
    let place: P = open_with_short_leases().await;
    push(place.stores(), messages(&["m1"])).await;
    let lost = claim_one(place.stores()).await;
    let place = place.die().await;
    let mut again = claim_with_sweeps(place.stores(), 1, SHORT_LEASE * 20).await;

    let follow_ups = vec![message("m2")];
    let settled =
        place.stores().queue.settle(umbel::store::Settlement { follow_ups, ..settlement(&lost, five()) }.into());

    assert_eq!(settled.await.unwrap(), Settled::LeaseLost);
    assert!(place.stores().results.load(&id("m2")).await.unwrap().is_none());
    assert_eq!(again.pop().unwrap().message.id, id("m1"));
}

pub async fn a_follow_up_that_is_known_already_is_not_sent_twice<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1", "m2"])).await;
    let delivery = claim_one(place.stores()).await;

    let follow_ups = messages(&["m2", "m3", "m3"]);
    let settled =
        place.stores().queue.settle(umbel::store::Settlement { follow_ups, ..settlement(&delivery, five()) }.into());

    assert_eq!(settled.await.unwrap(), Settled::Stored);
    assert_eq!(state(place.stores(), "m1").await, State::Success);
    assert_eq!(ids(&claim(place.stores(), 10).await), ["m2", "m3"]);
    assert_nothing_comes(place.stores()).await;
}

// What follows a task to which this callback is linked, when it has returned 5.
fn linked(delivery: &Delivery, callback: &Value) -> Vec<Message> {
    let embed: Embed = serde_json::from_value(json!({ "callbacks": [callback] })).unwrap();
    let (followers, readable) = Followers::read(&embed);
    readable.unwrap();
    let sender = Sender { origin: "umbel@here", now: Utc::now(), declared: &|_| Options::default() };
    followers.after_success(&delivery.message, &to_json(&5), sender).unwrap()
}

pub async fn a_follow_up_keeps_what_its_sender_wrote_about_it<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let delivery = claim_one(place.stores()).await;
    let options = json!({ "shadow": "pretty", "stamped_headers": ["tenant"], "tenant": "acme", "group_id": "g" });
    let follow_ups = linked(&delivery, &json!({ "task": "math.mul", "args": [10], "options": options }));

    let settled = umbel::store::Settlement { follow_ups, ..settlement(&delivery, five()) };
    assert_eq!(place.stores().queue.settle(settled.into()).await.unwrap(), Settled::Stored);

    let follower = claim_one(place.stores()).await.message;
    let wire: Value = serde_json::from_slice(&follower.to_wire()).unwrap();
    assert_eq!((follower.shadow().as_deref(), follower.group_id.as_deref()), (Some("pretty"), Some("g")));
    assert_eq!(wire["headers"]["stamps"], json!({ "tenant": "acme" }));
    assert_eq!(follower.arguments().unwrap().0.get(), "[5,10]");
    let run = load(place.stores(), follower.id.as_str()).await;
    assert_eq!((run.parent_id, run.root_id, run.task.as_str()), (Some(id("m1")), Some(id("m1")), "math.mul"));
}

pub async fn a_follow_up_waits_until_it_is_due<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let delivery = claim_one(place.stores()).await;
    let options = json!({ "task_id": "m2", "countdown": 3600 });
    let follow_ups = linked(&delivery, &json!({ "task": "math.mul", "options": options }));

    let settled = umbel::store::Settlement { follow_ups, ..settlement(&delivery, five()) };
    assert_eq!(place.stores().queue.settle(settled.into()).await.unwrap(), Settled::Stored);

    assert_eq!(state(place.stores(), "m2").await, State::Scheduled);
    assert_nothing_comes(place.stores()).await;
}
