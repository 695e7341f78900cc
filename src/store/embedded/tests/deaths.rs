//! What the next process knows of the runs that had begun. Dropping the stores is a death: an end writes nothing.

use tempfile::TempDir;

use super::*;
use crate::store::DEATHS;
use crate::task::Failure;

async fn claim(stores: &Stores) -> Delivery {
    stores.queue.claim(&Queues::Every, 1, PATIENCE).await.unwrap().pop().expect("a message within the patience")
}

async fn start(stores: &Stores) -> Delivery {
    let delivery = claim(stores).await;
    stores.queue.started(&delivery.receipt);
    delivery
}

fn retry(delivery: &Delivery) -> Settlement {
    let next = Box::new(delivery.message.retry(Utc::now()));
    Settlement { ending: Ending::Retry { next, why: Failure::builtin("ValueError", "later") }, ..success(delivery) }
}

async fn next_delivery_after_death(folder: &TempDir) -> (bool, u32) {
    let stores = open_in(folder).unwrap();
    let delivery = claim(&stores).await;
    (delivery.redelivered, delivery.deaths)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_had_begun_is_redelivered_and_suspected() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open_in(&folder).unwrap();
    stores.queue.push(vec![message("begun"), message("claimed")], None).await.unwrap();
    let begun = start(&stores).await;
    let claimed = claim(&stores).await;
    drop((stores, begun, claimed));

    let stores = open_in(&folder).unwrap();

    let again = stores.queue.claim(&Queues::Every, 2, PATIENCE).await.unwrap();
    let facts: Vec<_> = again.iter().map(|it| (it.message.id.as_str(), it.redelivered, it.deaths)).collect();
    assert_eq!(facts, [("begun", true, 1), ("claimed", false, 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_takes_its_process_down_again_and_again_is_poisoned() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open_in(&folder).unwrap();
    stores.queue.push(vec![message("poison"), message("neighbour")], None).await.unwrap();
    drop(stores);

    for death in 0..DEATHS {
        let stores = open_in(&folder).unwrap();
        assert_eq!(start(&stores).await.deaths, death);
    }

    let stores = open_in(&folder).unwrap();
    assert_eq!(claim(&stores).await.message.id.as_str(), "neighbour");
    let run = stores.results.load(&TaskId::parse("poison").unwrap()).await.unwrap().unwrap();
    assert_eq!((run.state, run.error), (State::Failure, Some(crate::store::poisoned())));
    assert!(run.finished_at.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_back_has_not_died() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open_in(&folder).unwrap();
    stores.queue.push(vec![message("m1")], None).await.unwrap();
    let stopped = start(&stores).await;
    stores.queue.put_back(vec![stopped], Duration::ZERO).await.unwrap();
    drop(stores);

    assert_eq!(next_delivery_after_death(&folder).await, (false, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_ended_has_not_died() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open_in(&folder).unwrap();
    stores.queue.push(vec![message("m1"), message("m2")], None).await.unwrap();
    let first = start(&stores).await;
    stores.queue.settle(success(&first).into()).await.unwrap();
    let second = start(&stores).await;
    stores.queue.settle(retry(&second).into()).await.unwrap();
    drop(stores);

    assert_eq!(next_delivery_after_death(&folder).await, (false, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_an_earlier_attempt_counts() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open_in(&folder).unwrap();
    stores.queue.push(vec![message("m1")], None).await.unwrap();
    start(&stores).await;
    drop(stores);
    let stores = open_in(&folder).unwrap();
    let second = start(&stores).await;

    stores.queue.settle(retry(&second).into()).await.unwrap();

    let third = claim(&stores).await;
    assert_eq!((third.message.retries, third.deaths), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_long_ago_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open_in(&folder).unwrap();
    stores.queue.push(vec![message("m1")], None).await.unwrap();
    start(&stores).await;
    drop(stores);
    drop(open_in(&folder).unwrap());
    let db = rusqlite::Connection::open(folder.path().join("data/umbel.db")).unwrap();
    let aged = db.execute("UPDATE death SET at = at - ?1", [crate::store::SUSPECTED_FOR.as_micros() as i64]).unwrap();
    drop(db);

    assert_eq!(aged, 1);
    assert_eq!(next_delivery_after_death(&folder).await.1, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_starts_of_another_database_suspect_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open_in(&folder).unwrap();
    stores.queue.push(vec![message("m1")], None).await.unwrap();
    start(&stores).await;
    drop(stores);
    let running = std::fs::read(folder.path().join("data/umbel.db-running")).unwrap();
    std::fs::remove_dir_all(folder.path().join("data")).unwrap();
    let stores = open_in(&folder).unwrap();
    stores.queue.push(vec![message("other")], None).await.unwrap();
    drop(stores);
    drop(open_in(&folder).unwrap());
    std::fs::write(folder.path().join("data/umbel.db-running"), running).unwrap();

    assert_eq!(next_delivery_after_death(&folder).await, (false, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_back_for_a_while_comes_first_once_it_is_over_also_after_a_death() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open_in(&folder).unwrap();
    stores.queue.push(["m1", "m2", "m3"].map(message).to_vec(), None).await.unwrap();
    let first = claim(&stores).await;
    let wait = Duration::from_millis(400);
    let over = Utc::now() + wait;
    stores.queue.put_back(vec![first], wait).await.unwrap();
    drop(stores);

    let stores = open_in(&folder).unwrap();
    assert_eq!(claim(&stores).await.message.id.as_str(), "m2");
    stores.queue.push(vec![message("m4")], None).await.unwrap();
    let due = async {
        while stores.results.load(&TaskId::parse("m1").unwrap()).await.unwrap().unwrap().state != State::Queued {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, due).await.expect("it becomes ready");

    assert!(Utc::now() >= over);
    let rest = stores.queue.claim(&Queues::Every, 3, PATIENCE).await.unwrap();
    assert_eq!(rest.iter().map(|it| it.message.id.as_str()).collect::<Vec<_>>(), ["m1", "m3", "m4"]);
}
