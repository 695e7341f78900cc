use std::collections::HashMap;
use std::time::Duration;

use umbel::store::{Settled, Stores};
use umbel::task::QueueName;

use crate::place::{MOMENT, Place, celery, five, message, open, push, settle};

const MESSAGES: usize = 2_000;

// Claims until nothing comes any more, and tells what it settled.
async fn work(stores: Stores) -> Vec<String> {
    let mut done = Vec::new();
    loop {
        let claimed = stores.queue.claim(&celery(), 64, MOMENT * 2).await.unwrap();
        if claimed.is_empty() {
            return done;
        }
        let settled =
            futures_util::future::join_all(claimed.iter().map(|delivery| settle(&stores, delivery, five()))).await;
        assert!(settled.iter().all(|settled| *settled == Settled::Stored));
        done.extend(claimed.iter().map(|delivery| delivery.message.id.to_string()));
    }
}

pub async fn many_claimers_get_each_message_once<P: Place>() {
    let place: P = open().await;
    let beside = place.beside().await;
    let mut claimers = tokio::task::JoinSet::new();
    for number in 0..4 {
        claimers.spawn(work(if number % 2 == 0 { place.stores().clone() } else { beside.clone() }));
    }

    for hundred in 0..MESSAGES / 100 {
        push(place.stores(), (0..100).map(|number| message(&format!("m{hundred}-{number}"))).collect()).await;
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    for id in claimers.join_all().await.into_iter().flatten() {
        *seen.entry(id).or_default() += 1;
    }

    // On a slow machine the claimers may give up before the last push; then one more goes through what is left.
    for id in work(place.stores().clone()).await {
        *seen.entry(id).or_default() += 1;
    }
    assert!(seen.values().all(|times| *times == 1), "claimed twice");
    assert_eq!(seen.len(), MESSAGES);
    let depth = place.stores().queue.depth(&QueueName::default()).await.unwrap();
    assert_eq!((depth.ready, depth.claimed), (0, 0));
}

pub async fn messages_pushed_at_the_same_time_are_all_there<P: Place>() {
    let place: P = open().await;
    let mut senders = tokio::task::JoinSet::new();

    for number in 0..200 {
        let stores = place.stores().clone();
        // Every tenth id was sent by someone else already.
        let name = format!("m{}", if number % 10 == 9 { number - 1 } else { number });
        senders.spawn(async move { stores.queue.push(vec![message(&name)], None).await.is_ok() });
    }
    let stored = senders.join_all().await.into_iter().filter(|stored| *stored).count();

    assert_eq!(stored, 180);
    let mut claimed = 0;
    while claimed < stored {
        let more = place.stores().queue.claim(&celery(), 50, Duration::from_secs(5)).await.unwrap().len();
        assert!(more > 0, "only {claimed} of {stored} came");
        claimed += more;
    }
}
