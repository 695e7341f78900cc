//! Somebody laid something else under a key of ours: what waits beside it stays, and what is in order goes on.

use std::collections::BTreeSet;

use umbel::store::{Queues, Settlement, Tick};
use umbel::task::{NewMessage, QueueName};

use super::*;

const OTHER: &str = "somebody's";

fn lay(raw: &mut Connection, key: &str) {
    let is_text = ["umbel:batch", "umbel:swept", "umbel:walked"].contains(&key);
    let _: u64 = raw.del(key).unwrap();
    let _: u64 = if is_text { raw.lpush(key, OTHER).unwrap() } else { raw.append(key, OTHER).unwrap() };
}

// Whatever is leased is given back at once.
async fn take_back(stores: &Stores, raw: &mut Connection) {
    for batch in raw.zrange::<_, Vec<u64>>("umbel:lease", 0, -1).unwrap_or_default() {
        let _: u64 = raw.zadd("umbel:lease", batch, 1).unwrap();
    }
    let _ = stores.queue.keep_alive().await;
}

fn named(name: &str) -> QueueName {
    QueueName::parse(name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_vanishes_whatever_lies_under_a_key_of_ours() {
    let names = include_str!("../../../src/store/redis/keys.lua");
    let single = names.lines().filter_map(|line| line.split_once("= PREFIX .. '")?.1.split('\'').next());
    let of_queue = ["umbel:due:celery", "umbel:delayed:celery", "celery\u{6}\u{16}3"];
    let of_task = ["umbel:run:m1", "celery-task-meta-m1"];
    let keys: Vec<&str> = single.chain(of_queue).chain(of_task).collect();
    assert!(keys.len() > 20, "{keys:?}");
    for key in keys {
        let (server, stores, mut raw) = open().await;
        let sent: BTreeSet<String> = (0..20).map(|number| format!("m{number}")).collect();
        lay(&mut raw, key);
        for name in &sent {
            lpush(&mut raw, "celery", String::from_utf8(message(name).to_wire()).unwrap());
        }

        for _ in 0..3 {
            let _ = stores.queue.claim(&celery(), 7, Duration::ZERO).await;
            take_back(&stores, &mut raw).await;
        }
        let _: u64 = raw.del(key).unwrap();
        drop(stores);

        let stores = connect(&server).await;
        let mut came = BTreeSet::new();
        let end = Instant::now() + PATIENCE;
        while came != sent {
            assert!(Instant::now() < end, "`{key}`: only {came:?} came");
            take_back(&stores, &mut raw).await;
            for delivery in stores.queue.claim(&celery(), 20, Duration::ZERO).await.unwrap() {
                assert_eq!(settle(&stores, &delivery, five()).await, Settled::Stored);
                came.insert(delivery.message.id.to_string());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_claimed_again_soon_after_it_is_mended() {
    let (_server, stores, mut raw) = open().await;
    let _: u64 = raw.hset("mail", "a", "b").unwrap();
    let began = Instant::now();

    let waiting = tokio::spawn({
        let stores = stores.clone();
        async move { stores.queue.claim(&Queues::Named(vec![named("mail"), named("celery")]), 1, PATIENCE).await }
    });
    // It waits for the other one.
    eventually(|| blocked(&mut raw) == 4).await;
    assert_eq!(stores.queue.queues().await.unwrap(), []);
    let _: u64 = raw.del("mail").unwrap();
    push(&stores, vec![NewMessage { queue: named("mail"), ..crate::place::draft("m1") }.build()]).await;

    assert_eq!(ids(&waiting.await.unwrap().unwrap()), ["m1"]);
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_under_whose_name_lies_something_else_stops_no_other() {
    let (_server, stores, mut raw) = open().await;
    let _: u64 = raw.hset("mail", "a", "b").unwrap();
    let names: Vec<String> = (0..20).map(|number| format!("m{number}")).collect();
    push(&stores, names.iter().map(|name| message(name)).collect()).await;
    let queues = Queues::Named(vec![named("mail"), named("celery")]);

    let mut claimed = Vec::new();
    while claimed.len() < 20 {
        let more = stores.queue.claim(&queues, 7, PATIENCE).await.unwrap();
        assert!(!more.is_empty(), "only {:?}", ids(&claimed));
        claimed.extend(more);
    }

    assert_eq!(ids(&claimed), names);
    let (waiting, ()) = tokio::join!(stores.queue.claim(&queues, 1, PATIENCE), async {
        push(&stores, messages(&["late"])).await;
    });
    assert_eq!(ids(&waiting.unwrap()), ["late"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_due_where_something_else_lies_waits_and_stops_no_other() {
    let (_server, stores, mut raw) = open().await;
    let due = Utc::now() + Duration::from_millis(200);
    let mail = NewMessage { queue: named("mail"), eta: Some(due), ..crate::place::draft("m1") };
    push(&stores, vec![mail.build(), NewMessage { eta: Some(due), ..crate::place::draft("m2") }.build()]).await;
    let _: u64 = raw.hset("mail", "a", "b").unwrap();

    assert_eq!(ids(&claim(&stores, 1).await), ["m2"]);
    stores.queue.keep_alive().await.unwrap();

    assert_eq!(stores.queue.depth(&named("mail")).await.map(|depth| depth.delayed).unwrap_or(1), 1);
    let _: u64 = raw.del("mail").unwrap();
    let _: u64 = raw.zadd("umbel:due", "mail", 1).unwrap();
    let found = stores.queue.claim(&Queues::Named(vec![named("mail")]), 1, PATIENCE).await.unwrap();
    assert_eq!(ids(&found), ["m1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_where_something_else_lies_is_refused_whole() {
    let (_server, stores, mut raw) = open().await;
    let _: u64 = raw.hset("mail", "a", "b").unwrap();
    let now = Utc::now();
    stores.ticks.watermarks(&[("nightly".into(), "f".into())], now - Duration::from_secs(1)).await.unwrap();
    let sent = || {
        let mail = NewMessage { queue: named("mail"), ..crate::place::draft("m1") };
        (vec![mail.build(), message("m2")], Some(Tick { entry: "nightly".into(), due: now }))
    };

    let (messages, tick) = sent();
    let refused = stores.queue.push(messages, tick).await.unwrap_err().to_string();

    assert!(refused.contains("under `mail` lies a hash"), "{refused}");
    assert!(stores.results.load(&id("m1")).await.unwrap().is_none());
    assert_nothing_comes(&stores).await;
    let _: u64 = raw.del("mail").unwrap();
    let (messages, tick) = sent();
    assert_eq!(stores.queue.push(messages, tick).await.unwrap(), umbel::store::Pushed::Stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_cannot_be_sent_refuses_its_settlement_and_no_other() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1", "m2", "m3"])).await;
    let claimed = claim(&stores, 3).await;
    let _: u64 = raw.hset("mail", "a", "b").unwrap();
    let _: u64 = raw.lpush("celery-task-meta-m3", OTHER).unwrap();
    let follow_ups = vec![NewMessage { queue: named("mail"), ..crate::place::draft("linked") }.build()];
    let linked =
        || stores.queue.settle(Settlement { follow_ups: follow_ups.clone(), ..settlement(&claimed[0], five()) }.into());

    let (refused, beside, over_other) = tokio::join!(
        linked(),
        stores.queue.settle(settlement(&claimed[1], five()).into()),
        stores.queue.settle(settlement(&claimed[2], five()).into())
    );

    assert!(refused.unwrap_err().to_string().contains("under `mail` lies a hash"));
    assert_eq!((beside.unwrap(), over_other.unwrap()), (Settled::Stored, Settled::Stored));
    assert!(!state(&stores, "m1").await.is_final());
    assert_eq!(load(&stores, "m3").await.result.unwrap().get(), "5");
    let _: u64 = raw.del("mail").unwrap();
    assert_eq!(linked().await.unwrap(), Settled::Stored);
    assert_eq!((state(&stores, "m1").await, state(&stores, "linked").await), (State::Success, State::Queued));
    assert_eq!(raw.llen::<_, u64>("mail").unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_settled_where_it_could_not_be_let_go() {
    for key in ["umbel:lease", "umbel:claims"] {
        let (_server, stores, mut raw) = open().await;
        push(&stores, messages(&["m1", "m2"])).await;
        let deliveries = claim(&stores, 2).await;
        let _: () = raw.rename(key, "aside").unwrap();
        lay(&mut raw, key);

        let ending = Ending::Success { result: Some(to_json(&5)) };
        let refused = stores.queue.settle(settlement(&deliveries[0], ending).into()).await.unwrap_err().to_string();
        let kept = stores.queue.put_back(vec![deliveries[1].clone()], Duration::ZERO).await.unwrap_err().to_string();

        assert!(refused.contains(key) && kept.contains(key), "{refused} {kept}");
        assert_ne!(state(&stores, "m1").await, State::Success);
        let _: u64 = raw.del(key).unwrap();
        let _: () = raw.rename("aside", key).unwrap();
        stores.queue.put_back(vec![deliveries[1].clone()], Duration::ZERO).await.unwrap();
        assert_eq!(settle(&stores, &deliveries[0], five()).await, Settled::Stored);
        assert_eq!(claim_one(&stores).await.receipt.id, id("m2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_go_back_keeps_no_other() {
    let (_server, stores, mut raw) = open().await;
    let queues = Queues::Named(vec![named("a"), named("b")]);
    for queue in ["a", "b"] {
        let new = NewMessage { task: "t".into(), queue: named(queue), ..NewMessage::default() };
        push(&stores, vec![new.build()]).await;
    }
    let mut deliveries = stores.queue.claim(&queues, 2, Duration::ZERO).await.unwrap();
    deliveries.sort_by_key(|delivery| delivery.message.queue.to_string());
    let _: u64 = raw.hset("b", "somebody", "else").unwrap();

    // The last one goes back first.
    let refused = stores.queue.put_back(deliveries, Duration::ZERO).await.unwrap_err().to_string();

    assert!(refused.contains("WRONGTYPE"), "{refused}");
    assert_eq!((raw.llen::<_, u64>("a").unwrap(), raw.hlen::<_, u64>("umbel:claims").unwrap()), (1, 1));
}
