//! Messages that one claim took from one list share a lease, and each of them still ends for itself.

use umbel::task::NewMessage;

use super::*;
use crate::place::draft;

// Everything that is kept of what is claimed.
fn kept(raw: &mut Connection) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for pattern in ["umbel:lease", "umbel:claims", "umbel:claimed:*", "umbel:open:*"] {
        keys.extend(raw.keys::<_, Vec<String>>(pattern).unwrap());
    }
    keys
}

async fn claimed(stores: &Stores) -> u64 {
    stores.queue.depth(&umbel::task::QueueName::default()).await.unwrap().claimed
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_whose_process_died_what_had_not_ended_comes_back_in_its_order() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;
    push(&stores, messages(&["m1", "m2", "m3", "m4", "m5"])).await;
    let first = claim(&stores, 2).await;
    let second = claim(&stores, 2).await;
    assert_eq!(settle(&stores, &first[0], five()).await, Settled::Stored);
    assert_eq!((kept(&mut raw).len(), claimed(&stores).await), (6, 3));

    for batch in [&first, &second] {
        let _: u64 = raw.zadd("umbel:lease", batch_of(&batch[0]), 1).unwrap();
    }
    other.queue.keep_alive().await.unwrap();

    assert_eq!(settle(&stores, &first[1], five()).await, Settled::LeaseLost);
    let again = claim(&other, 5).await;
    assert_eq!(ids(&again), ["m2", "m3", "m4", "m5"]);
    for delivery in &again {
        assert_eq!(settle(&other, delivery, five()).await, Settled::Stored);
    }
    assert_eq!((kept(&mut raw), claimed(&other).await), (vec![], 0));
    assert_nothing_comes(&stores).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_comes_again_while_its_siblings_run() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1", "m2", "m3"])).await;
    let deliveries = claim(&stores, 3).await;

    stores.queue.put_back(vec![deliveries[1].clone()], Duration::ZERO).await.unwrap();

    let again = claim_one(&stores).await;
    assert_eq!(again.receipt.id, id("m2"));
    assert_eq!(settle(&stores, &deliveries[1], five()).await, Settled::LeaseLost);
    for delivery in [&deliveries[0], &again, &deliveries[2]] {
        assert_eq!(settle(&stores, delivery, five()).await, Settled::Stored);
    }
    assert_eq!(kept(&mut raw), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_laid_aside_does_not_wait_for_its_siblings() {
    let (_server, stores, mut raw) = open().await;
    let _: () = raw.set("umbel:dead", "somebody's").unwrap();
    lpush(&mut raw, "celery", String::from_utf8(message("m1").to_wire()).unwrap());
    lpush(&mut raw, "celery", "rubbish".to_owned());
    let running = claim(&stores, 2).await;
    assert_eq!((ids(&running), claimed(&stores).await), (vec!["m1".to_owned()], 2));

    assert!(stores.queue.keep_alive().await.unwrap().is_empty());

    assert_eq!((claimed(&stores).await, raw.llen::<_, u64>("celery").unwrap()), (1, 1));
    let _: u64 = raw.del("umbel:dead").unwrap();
    assert_nothing_comes(&stores).await;
    assert_eq!(stores.queue.dead_letters().await.unwrap(), 1);
    assert_eq!(settle(&stores, &running[0], five()).await, Settled::Stored);
    assert_eq!(kept(&mut raw), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_claim_takes_of_several_lists_and_leaves_nothing_behind() {
    let (_server, stores, mut raw) = open().await;
    let envelope = |name: &str| String::from_utf8(message(name).to_wire()).unwrap();
    for (list, name) in [("celery", "m0"), ("celery\u{6}\u{16}9", "m9"), ("celery\u{6}\u{16}3", "m3")] {
        lpush(&mut raw, list, envelope(name));
    }

    let deliveries = claim(&stores, 3).await;

    assert_eq!((ids(&deliveries), kept(&mut raw).len()), (["m0", "m3", "m9"].map(str::to_owned).to_vec(), 8));
    for delivery in &deliveries {
        assert_eq!(settle(&stores, delivery, five()).await, Settled::Stored);
    }
    assert_eq!(kept(&mut raw), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_laid_aside_takes_no_room_while_its_siblings_run() {
    let (_server, stores, mut raw) = open().await;
    let good = String::from_utf8(message("m1").to_wire()).unwrap();
    lpush(&mut raw, "celery", &good);
    lpush(&mut raw, "celery", "rubbish".repeat(1_000));

    let running = claim(&stores, 2).await;

    let batch = format!("umbel:claimed:{}", batch_of(&running[0]));
    assert_eq!(raw.lrange::<_, Vec<String>>(&batch, 0, -1).unwrap(), [good, String::new()]);
}

// As they came, each once, and nothing is left of them.
async fn assert_all_come(stores: &Stores, raw: &mut Connection, names: &[String]) {
    let mut came = Vec::new();
    while came.len() < names.len() {
        for delivery in claim(stores, 500).await {
            came.push(delivery.message.id.to_string());
            assert_eq!(settle(stores, &delivery, five()).await, Settled::Stored);
        }
    }
    assert_eq!(came, names);
    assert_eq!(kept(raw), Vec::<String>::new());
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("m{number}")).collect()
}

async fn push_all(stores: &Stores, names: &[String]) {
    push(stores, messages(&names.iter().map(String::as_str).collect::<Vec<_>>())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_come_in_their_order() {
    let (_server, stores, mut raw) = open().await;
    let names = names(1_300);
    push_all(&stores, &names).await;

    assert_all_come(&stores, &mut raw, &names).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_large_ones_come_some_at_a_time() {
    let (_server, stores, mut raw) = open().await;
    let names = names(40);
    let text = to_json(&["x".repeat(100_000)]);
    let large = |name: &String| NewMessage { args: Some(text.clone()), ..draft(name) }.build();
    push(&stores, names.iter().map(large).collect()).await;

    let some = claim(&stores, 40).await;

    assert!((5..=8).contains(&some.len()), "{}", some.len());
    stores.queue.put_back(some, Duration::ZERO).await.unwrap();
    assert_all_come(&stores, &mut raw, &names).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_come_where_redis_lets_us_not_move_them_at_once() {
    let (server, _, mut raw) = open().await;
    for refused in ["-sort", "-memory", "-ltrim"] {
        let stores = as_user(&server, &mut raw, refused).await;
        let names = names(100);
        push_all(&stores, &names).await;

        assert_all_come(&stores, &mut raw, &names).await;
        let _: () = ::redis::cmd("FLUSHALL").query(&mut raw).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_could_not_be_fetched_go_back() {
    let (server, all, mut raw) = open().await;
    // An older Redis hands over all of them with the claim.
    let moves = "return redis.REDIS_VERSION_NUM and 1 or 0";
    if ::redis::cmd("EVAL").arg(moves).arg(0).query::<u8>(&mut raw).unwrap() == 0 {
        return;
    }
    let names = names(100);
    push_all(&all, &names).await;
    let stores = as_user(&server, &mut raw, "-lrange").await;

    assert!(stores.queue.claim(&celery(), 100, Duration::ZERO).await.is_err());

    while raw.llen::<_, usize>("celery").unwrap() < names.len() {
        tokio::task::yield_now().await;
    }
    assert_eq!(kept(&mut raw), Vec::<String>::new());
    assert_all_come(&all, &mut raw, &names).await;
}

// A process for which Redis refuses one command.
async fn as_user(server: &RedisServer, raw: &mut Connection, rule: &str) -> Stores {
    let rules = ["reset", "on", "nopass", "~*", "&*", "+@all", rule];
    let _: () = ::redis::cmd("ACL").arg("SETUSER").arg("ann").arg(&rules).query(raw).unwrap();
    reach(&format!("redis://ann:any@127.0.0.1:{}", server.port())).await
}
