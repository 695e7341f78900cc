//! A network between the store and its Redis that is cut, or swallows what it is given.

use umbel::task::Message;

use super::*;
use crate::place::draft;
use crate::proxy::{Proxy, TO_CLIENT, TO_SERVER, Way};

/// Bytes a second of a network of 50 Mbit/s.
const SLOW: usize = 6_000_000;

async fn behind_proxy() -> (RedisServer, Proxy, Stores) {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let stores = reach(&proxy.url()).await;
    assert_whole(&stores, "before").await;
    (server, proxy, stores)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_cut_is_away_until_it_is_mended() {
    let (_server, proxy, stores) = behind_proxy().await;

    proxy.cut();
    goes_away(&stores).await;
    proxy.mend();

    answers_again(&stores).await;
    assert_whole(&stores, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_silent_in_either_direction_is_away_until_it_is_not() {
    for direction in [TO_SERVER, TO_CLIENT] {
        for way in [Way::Stalled, Way::Swallowed] {
            let (_server, proxy, stores) = behind_proxy().await;

            proxy.set(direction, way);
            is_away_because(&stores, "did not answer within 900 ms").await;
            proxy.mend();

            answers_again(&stores).await;
            assert_whole(&stores, "after").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_other_end_has_vanished_is_made_again() {
    let (_server, proxy, stores) = behind_proxy().await;

    proxy.lose_all();

    answers_again(&stores).await;
    assert_whole(&stores, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_are_heard_again_where_their_connection_is_silent() {
    let (server, proxy, stores) = behind_proxy().await;
    let mut terminations = stores.queue.terminations();
    let now = Utc::now().timestamp_millis();
    let _: u64 = raw(&server).zadd("umbel:terminate", "m1", now).unwrap();

    // The second one that a store makes.
    proxy.lose(1);

    let heard = tokio::time::timeout(PATIENCE, terminations.recv()).await.expect("it is heard");
    assert_eq!(heard.unwrap(), id("m1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn remote_control_goes_where_the_shared_connection_goes() {
    let (server, proxy, stores) = behind_proxy().await;
    let mut raw = raw(&server);
    let (commands, _heard) = tokio::sync::mpsc::channel(1);
    let control = stores.control.clone().unwrap();
    tokio::spawn(async move { control.listen(commands).await });
    eventually(|| listeners(&mut raw).len() == 2).await;
    let before = listeners(&mut raw);

    proxy.lose(0);
    answers_again(&stores).await;

    eventually(|| {
        let after = listeners(&mut raw);
        after.len() == 2 && after.is_disjoint(&before)
    })
    .await;
}

// The connections that listen, by their numbers.
fn listeners(raw: &mut Connection) -> std::collections::BTreeSet<String> {
    let list: String = ::redis::cmd("CLIENT").arg("LIST").arg("TYPE").arg("pubsub").query(raw).unwrap();
    list.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_claim_outlives_a_network_that_swallows() {
    let (server, proxy, stores) = behind_proxy().await;
    let mut raw = raw(&server);
    let waiting = {
        let stores = stores.clone();
        tokio::spawn(async move { stores.queue.claim(&celery(), 1, Duration::from_secs(1)).await })
    };
    eventually(|| blocked(&mut raw) > 0).await;

    proxy.lose_all();

    tokio::time::timeout(PATIENCE, waiting).await.expect("it ends").unwrap().ok();
    answers_again(&stores).await;
    assert_whole(&stores, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_settled_without_an_answer_keeps_its_first_value() {
    let (_server, proxy, stores) = behind_proxy().await;
    push(&stores, messages(&["m1"])).await;
    let delivery = claim_one(&stores).await;

    proxy.set(TO_CLIENT, Way::Swallowed);
    let unanswered = stores.queue.settle(settlement(&delivery, five()).into()).await;
    proxy.mend();
    answers_again(&stores).await;
    let again = settle(&stores, &delivery, Ending::Success { result: Some(to_json(&6)) }).await;

    assert!(matches!(unanswered, Err(Error::Away { .. })), "{unanswered:?}");
    assert_eq!(again, Settled::LeaseLost);
    assert_eq!(load(&stores, "m1").await.result.unwrap().get(), "5");
}

// Else small requests would wait for the acknowledgement of those before them, for 40 ms and more.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_sent_waits_for_more() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let stores = reach(&proxy.url()).await;
    // The shared connection, the one for notices, and those of the four lists.
    let waiting = tokio::spawn({
        let stores = stores.clone();
        async move { claim_one(&stores).await }
    });
    let mut raw = raw(&server);
    eventually(|| blocked(&mut raw) == 4).await;

    let of_store = sockets_to(proxy.port());

    assert!(of_store.len() >= 6, "{of_store:?}");
    assert!(of_store.iter().all(|at_once| *at_once), "{of_store:?}");
    waiting.abort();
}

// Of each connection of this process to that port, whether it sends at once.
#[cfg(target_os = "linux")]
fn sockets_to(port: u16) -> Vec<bool> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers = open.filter_map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<i32>().ok());
    let sockets = numbers.filter_map(|number| {
        // SAFETY: it is only asked what it is, and an answer that it is none any more is one, too.
        let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        let peer = std::net::SocketAddr::try_from(rustix::net::getpeername(socket).ok()??).ok()?;
        (peer.port() == port).then(|| rustix::net::sockopt::tcp_nodelay(socket).ok()).flatten()
    });
    sockets.collect()
}

fn heavy(name: &str, size: usize) -> Message {
    umbel::task::NewMessage { args: Some(to_json(&["x".repeat(size)])), ..draft(name) }.build()
}

// They arrive although they take longer than Redis may be silent, and what is asked beside them is answered.
#[tokio::test(flavor = "multi_thread")]
async fn large_messages_arrive_over_a_slow_network() {
    let (server, proxy, stores) = behind_proxy().await;
    let direct = connect(&server).await;
    let mut heavy: Vec<Message> = (0..300).map(|number| heavy(&format!("m{number}"), 16 << 10)).collect();
    heavy.push(self::heavy("large", 6 << 20));
    heavy.push(message("behind"));
    let mut missing: std::collections::BTreeSet<String> =
        heavy.iter().map(|message| message.id.as_str().to_owned()).collect();
    for part in heavy.chunks(100) {
        push(&direct, part.to_vec()).await;
    }

    proxy.slow_down(TO_CLIENT, SLOW);

    while !missing.is_empty() {
        let (claimed, pinged) = tokio::join!(claim(&stores, 500), stores.queue.ping());
        pinged.unwrap();
        assert!(!claimed.is_empty(), "these do not come: {missing:?}");
        ids(&claimed).iter().for_each(|id| assert!(missing.remove(id), "`{id}` comes twice"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_and_results_are_stored_and_read_over_a_slow_network() {
    let (_server, proxy, stores) = behind_proxy().await;
    proxy.slow_down(TO_SERVER, SLOW);
    proxy.slow_down(TO_CLIENT, SLOW);

    push(&stores, vec![heavy("m1", 4 << 20)]).await;
    let delivery = claim_one(&stores).await;
    let text = "x".repeat(4 << 20);
    let ending = Ending::Success { result: Some(to_json(&text)) };
    assert_eq!(settle(&stores, &delivery, ending).await, Settled::Stored);

    assert_eq!(load(&stores, "m1").await.result.unwrap().get().len(), text.len() + 2);
}

// Without a sweep, so that the end of the lease brings nothing back.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_claim_was_granted_whose_answer_was_lost_comes_at_once() {
    let (server, proxy, stores) = behind_proxy().await;
    let names: Vec<String> = (0..300).map(|number| format!("m{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    push(&connect(&server).await, messages(&names)).await;

    proxy.set(TO_CLIENT, Way::Swallowed);
    let unanswered = stores.queue.claim(&celery(), 500, PATIENCE).await;
    proxy.mend();
    answers_again(&stores).await;

    assert!(matches!(unanswered, Err(Error::Away { .. })), "{unanswered:?}");
    let mut claimed = Vec::new();
    while claimed.len() < names.len() {
        let some = claim(&stores, 500).await;
        assert!(!some.is_empty(), "{} are missing", names.len() - claimed.len());
        claimed.extend(some);
    }
    assert_eq!(ids(&claimed), names);
    assert!(claimed.iter().all(|delivery| !delivery.redelivered));
}
