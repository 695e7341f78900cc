use std::time::Duration;

use chrono::Utc;
use umbel::store::{Ending, Filter, Settings, Stores};
use umbel::task::{Failure, NewMessage, State};

use crate::place::{PATIENCE, Place, claim_one, draft, five, id, load, message, messages, open, push, run};

async fn recent(stores: &Stores, filter: Filter) -> Vec<String> {
    let runs = stores.history.search(&filter).await.unwrap().runs;
    runs.into_iter().map(|run| run.id.to_string()).collect()
}

pub async fn recent_runs_come_newest_first<P: Place>() {
    let place: P = open().await;
    for name in ["m1", "m2", "m3"] {
        run(place.stores(), message(name), five()).await;
    }

    assert_eq!(recent(place.stores(), Filter { limit: 10, ..Filter::default() }).await, ["m3", "m2", "m1"]);
    assert_eq!(recent(place.stores(), Filter { limit: 2, ..Filter::default() }).await, ["m3", "m2"]);
}

pub async fn recent_runs_are_found_by_name<P: Place>() {
    let place: P = open().await;
    run(place.stores(), message("m1"), five()).await;
    run(place.stores(), NewMessage { task: "mail.send".into(), ..draft("m2") }.build(), five()).await;
    run(place.stores(), message("m3"), five()).await;

    let named = |name: &str| Filter { name: Some(name.into()), limit: 10, ..Filter::default() };

    assert_eq!(recent(place.stores(), named("math.add")).await, ["m3", "m1"]);
    assert_eq!(recent(place.stores(), named("mail.send")).await, ["m2"]);
    assert!(recent(place.stores(), named("mail")).await.is_empty());
}

pub async fn recent_runs_are_found_by_state<P: Place>() {
    let place: P = open().await;
    let no = || Ending::Failure(Failure::builtin("ValueError", "no"));
    run(place.stores(), message("m1"), no()).await;
    run(place.stores(), message("m2"), five()).await;
    run(place.stores(), NewMessage { task: "mail.send".into(), ..draft("m3") }.build(), no()).await;
    run(place.stores(), message("m4"), Ending::Revoked { reason: "expired" }).await;
    let later = Utc::now() + Duration::from_secs(3600);
    let next = Box::new(message("m5").retry(later));
    run(place.stores(), message("m5"), Ending::Retry { next, why: Failure::builtin("ValueError", "later") }).await;
    push(place.stores(), vec![NewMessage { eta: Some(later), ..draft("m6") }.build()]).await;
    push(place.stores(), messages(&["m7"])).await;
    let _running = claim_one(place.stores()).await;
    push(place.stores(), messages(&["m8"])).await;

    let of = |state: State| Filter { state: Some(state), limit: 10, ..Filter::default() };
    let both = Filter { name: Some("mail.send".into()), state: Some(State::Failure), limit: 10, ..Filter::default() };

    assert_eq!(recent(place.stores(), of(State::Failure)).await, ["m3", "m1"]);
    assert_eq!(recent(place.stores(), of(State::Success)).await, ["m2"]);
    assert_eq!(recent(place.stores(), of(State::Revoked)).await, ["m4"]);
    assert_eq!(recent(place.stores(), of(State::Retry)).await, ["m5"]);
    assert_eq!(recent(place.stores(), of(State::Scheduled)).await, ["m6"]);
    assert_eq!(recent(place.stores(), of(State::Started)).await, ["m7"]);
    assert_eq!(recent(place.stores(), of(State::Queued)).await, ["m8"]);
    assert_eq!(recent(place.stores(), both).await, ["m3"]);
}

pub async fn the_oldest_ended_runs_leave_a_full_history<P: Place>() {
    let place = P::open(Settings { history: 10, ..Settings::default() }).await;
    push(place.stores(), messages(&["waiting"])).await;
    let waiting = claim_one(place.stores()).await;
    for number in 0..25 {
        run(place.stores(), message(&format!("m{number}")), five()).await;
    }
    place.stores().queue.put_back(vec![waiting], Duration::ZERO).await.unwrap();

    // A store may take several steps to get there.
    for _ in 0..5 {
        place.stores().queue.keep_alive().await.unwrap();
    }

    let of_ended = Filter { state: Some(State::Success), limit: 100, ..Filter::default() };
    let kept: Vec<String> = (15..25).rev().map(|number| format!("m{number}")).collect();
    assert_eq!(recent(place.stores(), of_ended).await, kept);
    assert_eq!(load(place.stores(), "waiting").await.state, State::Queued);
    assert_eq!(claim_one(place.stores()).await.message.id.as_str(), "waiting");
}

pub async fn an_old_result_is_dropped<P: Place>() {
    let place = P::open(Settings { keep: Duration::from_millis(400), ..Settings::default() }).await;
    run(place.stores(), message("m1"), five()).await;

    let dropped = async {
        loop {
            place.stores().queue.keep_alive().await.unwrap();
            let run = place.stores().results.load(&id("m1")).await.unwrap();
            if run.is_none_or(|run| run.result.is_none()) {
                return;
            }
        }
    };

    tokio::time::timeout(PATIENCE, dropped).await.expect("the result is dropped");
}

pub async fn a_full_history_does_not_wait_for_the_timer<P: Place>() {
    let place = P::open(Settings { history: 10, ..Settings::default() }).await;

    for number in 0..40 {
        run(place.stores(), message(&format!("m{number}")), five()).await;
    }

    let kept = recent(place.stores(), Filter { limit: 100, ..Filter::default() }).await;
    assert!((10..=12).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept[0], "m39");
}
