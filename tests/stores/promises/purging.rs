use std::time::Duration;

use chrono::Utc;
use umbel::store::Ending;
use umbel::task::{Failure, NewMessage, QueueName, State};

use crate::place::{PATIENCE, Place, claim_one, draft, ended, id, load, message, messages, open, push, settle, state};

pub async fn what_is_purged_is_revoked_and_stays_in_the_history<P: Place>() {
    let place: P = open().await;
    let later = Some(Utc::now() + Duration::from_secs(3_600));
    push(place.stores(), messages(&["m1", "m2"])).await;
    push(place.stores(), vec![NewMessage { eta: later, ..draft("m3") }.build()]).await;
    claim_one(place.stores()).await;

    place.stores().queue.purge(&QueueName::default()).await.unwrap();

    assert_eq!(state(place.stores(), "m1").await, State::Started);
    for purged in ["m2", "m3"] {
        let run = load(place.stores(), purged).await;
        let error = run.error.unwrap();
        assert_eq!((run.state, run.started_at), (State::Revoked, None));
        assert_eq!((error.exc_type.as_str(), error.exc_message.as_str()), ("TaskRevokedError", "purged"));
        assert_eq!(run.args.unwrap().get(), "[2,3]");
        assert!(run.finished_at.is_some());
    }
    let refused = place.stores().queue.push(vec![message("m2")], None).await;
    assert!(matches!(refused, Err(umbel::store::Error::DuplicateId { .. })), "{refused:?}");
}

pub async fn who_waits_for_what_is_purged_is_told<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1", "m2"])).await;
    let mut changes = place.stores().results.changes(&id("m1")).await.unwrap();
    changes.mark_unchanged();
    let stores = place.stores().clone();
    let waiting = tokio::spawn(async move { ended(&stores, "m2").await });

    place.stores().queue.purge(&QueueName::default()).await.unwrap();

    tokio::time::timeout(PATIENCE, changes.changed()).await.expect("told of the change").unwrap();
    let run = tokio::time::timeout(PATIENCE / 2, waiting).await.expect("told of the end").unwrap();
    assert_eq!((run.state, state(place.stores(), "m1").await), (State::Revoked, State::Revoked));
}

pub async fn what_waits_for_its_retry_is_purged_with_what_it_left<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let delivery = claim_one(place.stores()).await;
    let next = Box::new(delivery.message.retry(Utc::now() + Duration::from_secs(3_600)));
    settle(place.stores(), &delivery, Ending::Retry { next, why: Failure::builtin("ValueError", "no") }).await;

    let purged = place.stores().queue.purge(&QueueName::default()).await.unwrap();

    let run = ended(place.stores(), "m1").await;
    assert_eq!((purged, run.state, run.error.unwrap().exc_message.as_str()), (1, State::Revoked, "purged"));
}
