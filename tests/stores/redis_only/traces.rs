//! What is kept beside the messages, and what is left of it in the end.

use umbel::task::NewMessage;

use super::*;
use crate::place::draft;

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_watches_is_not_called_out() {
    let (server, stores, _) = open().await;
    let mut ears = ::redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let mut ears = ears.as_pubsub();
    ears.psubscribe("umbel:changed:*").unwrap();
    push(&stores, messages(&["m1"])).await;
    claim_one(&stores).await;

    let _watcher = stores.results.changes(&id("m2")).await.unwrap();
    push(&stores, messages(&["m2"])).await;

    assert_eq!(ears.get_message().unwrap().get_channel_name(), "umbel:changed:m2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_leaves_no_mark_of_its_beginning() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1", "m2", "m3"])).await;
    let claimed = claim(&stores, 3).await;
    stores.queue.started(&claimed[0].receipt);
    stores.queue.keep_alive().await.unwrap();
    assert_eq!(raw.hkeys::<_, Vec<u64>>("umbel:begun").unwrap(), [claimed[0].receipt.token]);

    settle(&stores, &claimed[0], five()).await;
    stores.queue.started(&claimed[1].receipt);
    settle(&stores, &claimed[1], five()).await;
    stores.queue.started(&claimed[1].receipt);
    stores.queue.started(&claimed[2].receipt);
    stores.queue.put_back(claimed[2..].to_vec(), Duration::ZERO).await.unwrap();
    stores.queue.keep_alive().await.unwrap();

    assert_eq!(raw.hlen::<_, u64>("umbel:begun").unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_sources_make_room() {
    let (_server, stores, mut raw) = open().await;
    let source = |hash: &str| umbel::store::Source {
        hash: hash.into(),
        files: [("tasks/it.rhai".to_owned(), "fn it() {}".repeat(10))].into(),
    };
    stores.sources.keep(vec![source("a"), source("b")]).await.unwrap();
    let _: () = raw.set("umbel:sources:size", (64 << 20) - 10).unwrap();

    stores.sources.keep(vec![source("a"), source("c")]).await.unwrap();

    let mut kept: Vec<String> = raw.hkeys("umbel:sources").unwrap();
    kept.sort();
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(stores.sources.source("c").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_forgets_what_ended_long_ago_and_nothing_else() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["old", "new", "waiting"])).await;
    for delivery in claim(&stores, 2).await {
        settle(&stores, &delivery, five()).await;
    }
    let _: () = raw.del("umbel:ends").unwrap();
    for (name, days) in [("old", 31), ("new", 29)] {
        let ended = (Utc::now() - Duration::from_secs(days * 86_400)).timestamp_millis();
        let _: () = raw.rpush("umbel:ends", format!("{ended} {name}")).unwrap();
        let _: () = raw.hset(format!("umbel:run:{name}"), "ended", ended).unwrap();
    }

    stores.queue.keep_alive().await.unwrap();

    assert!(stores.results.load(&id("old")).await.unwrap().is_none());
    assert_eq!(state(&stores, "new").await, State::Success);
    assert_eq!(state(&stores, "waiting").await, State::Queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_was_sent_twice_ages_by_its_last_end() {
    let (server, _, mut raw) = open().await;
    let settings = Settings { history: 2, ..Settings::default() };
    let stores = umbel::store::open(&server.url(), std::path::Path::new("."), settings).await.unwrap();
    let envelope = |name: &str| String::from_utf8(message(name).to_wire()).unwrap();
    let twice = envelope("twice");
    let run = async |envelope: &str| {
        lpush(&mut super::raw(&server), "celery", envelope);
        let delivery = claim_one(&stores).await;
        assert_eq!(settle(&stores, &delivery, five()).await, Settled::Stored);
    };
    run(&twice).await;
    run(&envelope("once")).await;
    // So that its first end is the earlier one by the clock of Redis, too.
    let first: String = raw.lindex("umbel:ends", 0).unwrap();
    let _: () = raw.lset("umbel:ends", 0, format!("1{}", &first[first.find(' ').unwrap()..])).unwrap();
    run(&twice).await;

    assert!(stores.results.load(&id("once")).await.unwrap().is_some());
    assert_eq!(state(&stores, "twice").await, State::Success);

    // A second message of it, which runs now.
    lpush(&mut raw, "celery", &twice);
    let again = claim_one(&stores).await;
    assert!(stores.results.load(&id("twice")).await.unwrap().is_some(), "asked for, it is written down that it runs");
    for name in ["x", "y", "z"] {
        run(&envelope(name)).await;
    }
    assert_eq!(raw.hget::<_, _, String>("umbel:run:twice", "state").unwrap(), "STARTED");
    assert_eq!(settle(&stores, &again, five()).await, Settled::Stored);
    assert_eq!(state(&stores, "twice").await, State::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_ended_and_waits_anew_is_not_forgotten() {
    let (server, _, mut raw) = open().await;
    let settings = Settings { history: 1, ..Settings::default() };
    let stores = umbel::store::open(&server.url(), std::path::Path::new("."), settings).await.unwrap();
    lpush(&mut raw, "celery", String::from_utf8(message("again").to_wire()).unwrap());
    assert_eq!(settle(&stores, &claim_one(&stores).await, five()).await, Settled::Stored);
    let later = NewMessage { eta: Some(Utc::now() + Duration::from_secs(3600)), ..draft("again") }.build();
    lpush(&mut raw, "celery", String::from_utf8(later.to_wire()).unwrap());
    assert_nothing_comes(&stores).await;

    for name in ["m1", "m2"] {
        push(&stores, messages(&[name])).await;
        assert_eq!(settle(&stores, &claim_one(&stores).await, five()).await, Settled::Stored);
    }

    assert_eq!(raw.hget::<_, _, String>("umbel:run:again", "state").unwrap(), "SCHEDULED");
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_that_somebody_deleted_are_written_anew() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1", "m2"])).await;
    assert_eq!(settle(&stores, &claim_one(&stores).await, five()).await, Settled::Stored);
    let _: () = raw.del("umbel:ends").unwrap();
    let _: () = raw.rpush("umbel:ends", "rubbish").unwrap();

    stores.queue.keep_alive().await.unwrap();

    let ended: String = raw.hget("umbel:run:m1", "ended").unwrap();
    let ends: Vec<String> = raw.lrange("umbel:ends", 0, -1).unwrap();
    assert!(ends.contains(&format!("{ended} m1")), "{ends:?}");
    assert_eq!((state(&stores, "m1").await, state(&stores, "m2").await), (State::Success, State::Queued));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_installations_behind_prefixes_do_not_meet() {
    let (server, stores, mut raw) = open().await;
    let shop = behind(&server, "shop").await;
    push(&shop, messages(&["m1"])).await;
    assert_nothing_comes(&stores).await;

    let delivery = claim_one(&shop).await;
    assert_eq!(settle(&shop, &delivery, five()).await, Settled::Stored);

    assert_eq!(state(&shop, "m1").await, State::Success);
    assert!(stores.results.load(&id("m1")).await.unwrap().is_none());
    let keys: Vec<String> = raw.keys("*").unwrap();
    assert!(keys.contains(&"shop_celery-task-meta-m1".to_owned()), "{keys:?}");
    assert!(keys.contains(&"shopumbel:run:m1".to_owned()), "{keys:?}");
}

async fn behind(server: &RedisServer, prefix: &str) -> Stores {
    let redis = umbel::store::RedisSettings { prefix: prefix.to_owned(), ..Default::default() };
    let settings = Settings { redis, ..Settings::default() };
    umbel::store::open(&server.url(), std::path::Path::new("."), settings).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_is_remembered_while_its_message_lies_somewhere() {
    let (_server, stores, mut raw) = open().await;
    stores.queue.pause(&celery_queue(), true).await.unwrap();
    push(&stores, messages(&["m1"])).await;
    stores.queue.revoke(&id("m1"), false).await.unwrap();
    stores.queue.revoke(&id("nobody"), false).await.unwrap();
    let days_ago = (Utc::now() - Duration::from_secs(3 * 86_400 + 1)).timestamp_millis();
    for name in ["m1", "nobody"] {
        let _: u64 = raw.zadd("umbel:revoked", name, days_ago).unwrap();
    }

    stores.queue.keep_alive().await.unwrap();
    stores.queue.pause(&celery_queue(), false).await.unwrap();

    assert_eq!(raw.zrange::<_, Vec<String>>("umbel:revoked", 0, -1).unwrap(), ["m1"]);
    assert_nothing_comes(&stores).await;
    assert_eq!(state(&stores, "m1").await, State::Revoked);
    assert_eq!(raw.zcard::<_, u64>("umbel:revoked").unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_delayed_messages_of_one_id_both_come() {
    let (_server, stores, mut raw) = open().await;
    let due = Utc::now() + Duration::from_millis(500);
    let send = |raw: &mut Connection, tag: &str| {
        let mut envelope = captured("pub-03-countdown");
        envelope["headers"]["eta"] = json!(due.to_rfc3339());
        envelope["headers"]["id"] = json!("same");
        envelope["headers"]["shadow"] = json!(tag);
        lpush(raw, "celery", &envelope);
    };

    send(&mut raw, "a");
    send(&mut raw, "b");
    assert_nothing_comes(&stores).await;

    assert_eq!(stores.queue.depth(&celery_queue()).await.unwrap().delayed, 2);
    let mut shadows = Vec::new();
    while shadows.len() < 2 {
        let delivery = claim_one(&stores).await;
        shadows.extend(delivery.message.shadow().map(|shadow| shadow.to_string()));
        assert_eq!(settle(&stores, &delivery, five()).await, Settled::Stored);
    }
    shadows.sort();
    assert_eq!(shadows, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_delayed_messages_of_one_id_are_revoked() {
    let (_server, stores, mut raw) = open().await;
    for tag in ["a", "b"] {
        let mut envelope = captured("pub-03-countdown");
        envelope["headers"]["eta"] = json!((Utc::now() + Duration::from_secs(3_600)).to_rfc3339());
        envelope["headers"]["id"] = json!("same");
        envelope["headers"]["shadow"] = json!(tag);
        lpush(&mut raw, "celery", &envelope);
    }
    assert_nothing_comes(&stores).await;

    stores.queue.revoke(&id("same"), false).await.unwrap();
    let left: Vec<String> = raw.zrange("umbel:due:celery", 0, -1).unwrap();
    for place in &left {
        let _: u64 = raw.zadd("umbel:due:celery", place, 1).unwrap();
    }
    let _: u64 = raw.zadd("umbel:due", "celery", 1).unwrap();

    assert_eq!(left.len(), 1);
    assert_nothing_comes(&stores).await;
    assert_eq!(stores.queue.depth(&celery_queue()).await.unwrap().delayed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waited_for_its_time_is_kept_by_the_history_once_it_has_ended() {
    let (_server, stores, mut raw) = open().await;
    let soon = || Utc::now() + Duration::from_millis(100);
    let draft = |name| umbel::task::NewMessage { eta: Some(soon()), ..crate::place::draft(name) };
    push(&stores, vec![draft("delayed").build(), draft("revoked").build(), message("retried")]).await;
    stores.queue.revoke(&id("revoked"), false).await.unwrap();
    let mut retried = false;
    for _ in 0..3 {
        let delivery = claim_one(&stores).await;
        let ending = if delivery.message.id == id("retried") && !std::mem::replace(&mut retried, true) {
            let next = Box::new(delivery.message.retry(soon()));
            Ending::Retry { next, why: umbel::task::Failure::builtin("ValueError", "later") }
        } else {
            five()
        };
        settle(&stores, &delivery, ending).await;
    }

    for name in ["delayed", "revoked", "retried"] {
        assert!(state(&stores, name).await.is_final());
        assert_eq!(raw.ttl::<_, i64>(format!("umbel:run:{name}")).unwrap(), -1, "{name}");
    }
}
