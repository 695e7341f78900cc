use chrono::{DateTime, Utc};
use umbel::store::{Stores, WorkerFacts};

use crate::place::{PATIENCE, Place, id, open, open_with_short_leases, queue};

fn worker(name: &str) -> WorkerFacts {
    // Whole seconds: a store may keep less than nanoseconds.
    let now = DateTime::from_timestamp(Utc::now().timestamp(), 0).unwrap();
    WorkerFacts {
        name: name.into(),
        version: "1.2.3".into(),
        started_at: now,
        seen_at: now,
        slots: 4,
        running: vec![id("m1"), id("m2")],
        queues: vec![queue("celery"), queue("io")],
    }
}

async fn announce(stores: &Stores, worker: &WorkerFacts) {
    stores.roster.announce(worker.clone()).await.unwrap();
}

async fn names(stores: &Stores) -> Vec<String> {
    stores.roster.workers().await.unwrap().into_iter().map(|worker| worker.name).collect()
}

pub async fn who_is_there_is_known_by_name<P: Place>() {
    let place: P = open().await;
    assert!(place.stores().roster.workers().await.unwrap().is_empty());
    let second = worker("umbel-2@here");

    announce(place.stores(), &second).await;
    announce(&place.beside().await, &worker("umbel-1@there")).await;

    assert_eq!(names(place.stores()).await, ["umbel-1@there", "umbel-2@here"]);
    assert_eq!(place.stores().roster.workers().await.unwrap()[1], second);
}

pub async fn what_a_worker_said_last_counts<P: Place>() {
    let place: P = open().await;
    let idle = WorkerFacts { running: Vec::new(), queues: Vec::new(), ..worker("umbel-1@here") };
    announce(place.stores(), &worker("umbel-1@here")).await;

    announce(place.stores(), &idle).await;

    assert_eq!(place.stores().roster.workers().await.unwrap(), [idle]);
}

pub async fn who_leaves_is_gone_at_once<P: Place>() {
    let place: P = open().await;
    announce(place.stores(), &worker("umbel-1@here")).await;
    announce(place.stores(), &worker("umbel-2@here")).await;

    place.stores().roster.leave("umbel-1@here").await.unwrap();

    assert_eq!(names(place.stores()).await, ["umbel-2@here"]);
}

pub async fn who_says_nothing_for_a_lease_is_gone<P: Place>() {
    let place: P = open_with_short_leases().await;
    announce(place.stores(), &worker("silent")).await;
    announce(place.stores(), &worker("loud")).await;

    let gone = async {
        while names(place.stores()).await.len() > 1 {
            announce(place.stores(), &worker("loud")).await;
        }
    };

    tokio::time::timeout(PATIENCE, gone).await.expect("the silent one is gone");
    assert_eq!(names(place.stores()).await, ["loud"]);
}
