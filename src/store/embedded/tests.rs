//! What only this store promises; the promises of every store are in `tests/stores/`.

mod deaths;
mod faults;
mod rollbacks;
mod tidying;

use std::time::Duration;

use chrono::Utc;

use super::*;
use crate::store::{Attempt, Delivery, Ending, Error, Queues, Settled, Settlement, Source};
use crate::task::{Message, NewMessage, QueueName, State, to_json};

const PATIENCE: Duration = Duration::from_secs(20);

fn open_in(folder: &tempfile::TempDir) -> Result<Stores> {
    open_with(folder, Settings::default())
}

fn open_with(folder: &tempfile::TempDir, settings: Settings) -> Result<Stores> {
    open(&folder.path().join("data/umbel.db"), &folder.path().join("data/umbel.lock"), settings)
}

fn refusal(folder: &tempfile::TempDir) -> String {
    match open_in(folder) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}

fn draft(id: &str) -> NewMessage {
    NewMessage { id: Some(TaskId::parse(id).unwrap()), task: "math.add".into(), ..NewMessage::default() }
}

fn message(id: &str) -> Message {
    draft(id).build()
}

fn success(delivery: &Delivery) -> Settlement {
    Settlement {
        delivery: delivery.clone(),
        ending: Ending::Success { result: Some(to_json(&5)) },
        attempt: Attempt::default(),
        follow_ups: Vec::new(),
    }
}

#[test]
fn a_second_process_is_refused_by_naming_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open_in(&folder).unwrap();

    let refused = refusal(&folder);

    assert!(refused.contains(&format!("in use by process {}", std::process::id())), "{refused}");
}

#[test]
fn what_is_kept_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let _store = open_in(&folder).unwrap();

    let data = folder.path().join("data");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for file in ["umbel.db", "umbel.db-wal", "umbel.db-running", "umbel.lock"] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
}

#[test]
fn a_schema_from_the_future_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_in(&folder).unwrap());
    let path = folder.path().join("data/umbel.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let before = std::fs::read(&path).unwrap();

    let refused = refusal(&folder);

    assert!(std::fs::read(&path).unwrap() == before, "it was changed");
    assert!(refused.contains("umbel.db` was written by a newer umbel (its schema is 99"), "{refused}");
}

#[test]
fn a_file_of_another_kind_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/umbel.db");
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(&path, "not a database, ".repeat(300)).unwrap();

    let refused = refusal(&folder);

    assert!(refused.contains("umbel.db` is no SQLite database"), "{refused}");
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("not a database"));
}

#[test]
fn a_database_of_another_program_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let path = folder.path().join("data/umbel.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    for version in 0..=2 {
        rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", version).unwrap();
        let before = std::fs::read(&path).unwrap();

        let refused = refusal(&folder);

        assert!(std::fs::read(&path).unwrap() == before, "it was changed");
        assert!(refused.contains("is an SQLite database of another program"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_memory_keeps_what_it_is_told_and_leaves_nothing() {
    let stores = open_in_memory(Settings::default()).unwrap();
    let other = open_in_memory(Settings::default()).unwrap();
    let mut senders = tokio::task::JoinSet::new();
    for number in 0..200 {
        let stores = stores.clone();
        senders.spawn(async move {
            let sent = message(&format!("m{number}"));
            stores.queue.push(vec![sent.clone()], None).await.unwrap();
            stores.results.load(&sent.id).await.unwrap().unwrap().state
        });
    }

    let states = senders.join_all().await;
    let claimed = stores.queue.claim(&Queues::Every, 500, PATIENCE).await.unwrap();
    stores.queue.settle(success(&claimed[0]).into()).await.unwrap();

    assert!(states.iter().all(|state| *state == State::Queued));
    assert_eq!(claimed.len(), 200);
    assert_eq!(stores.results.load(&claimed[0].message.id).await.unwrap().unwrap().state, State::Success);
    assert!(other.results.load(&claimed[0].message.id).await.unwrap().is_none());
    assert!(!std::path::Path::new("umbel.db").exists());
}

// SQLite rolls the whole transaction back when it meets a full disk, so that neighbours of a command are at stake.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_that_was_promised() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = Embedded::start(&File::On(folder.path().join("umbel.db")), None, Settings::default()).unwrap();
    let stores = embedded.clone().stores();
    stores.queue.push(vec![message("first"), message("second")], None).await.unwrap();
    let claimed = stores.queue.claim(&Queues::Every, 2, PATIENCE).await.unwrap();
    limit_pages(&embedded, 60).await;

    let mut senders = tokio::task::JoinSet::new();
    for number in 0..300 {
        let stores = stores.clone();
        senders.spawn(async move {
            let mut large = message(&format!("m{number}"));
            large.body = vec![b' '; 8_192].into();
            (large.id.clone(), stores.queue.push(vec![large], None).await)
        });
    }
    let sent = senders.join_all().await;
    let mut full = success(&claimed[0]);
    full.ending = Ending::Success { result: Some(to_json(&"x".repeat(1 << 20))) };
    full.follow_ups = vec![message("follow-up")];
    let not_settled = stores.queue.settle(full.into()).await;
    limit_pages(&embedded, 1_000_000).await;

    assert!(matches!(&not_settled, Err(Error::Full { reason }) if reason.contains("disk is full")), "{not_settled:?}");
    assert!(stores.results.load(&TaskId::parse("follow-up").unwrap()).await.unwrap().is_none());
    assert_eq!(stores.queue.settle(success(&claimed[0]).into()).await.unwrap(), Settled::Stored);
    assert!(sent.iter().any(|(_, stored)| stored.is_err()));
    for (id, stored) in &sent {
        assert_eq!(stores.results.load(id).await.unwrap().is_some(), stored.is_ok(), "{id}: {stored:?}");
    }
    let ready = stores.queue.claim(&Queues::Every, 1_000, Duration::ZERO).await.unwrap();
    assert_eq!(ready.len(), sent.iter().filter(|(_, stored)| stored.is_ok()).count());
}

async fn limit_pages(embedded: &Embedded, pages: i64) {
    let limit =
        move |desk: &mut Desk| Ok(desk.db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?);
    embedded.writer.write(limit).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_found_again_after_many_claims_and_returns() {
    let stores = open_in_memory(Settings::default()).unwrap();
    for ten in 0..10 {
        let messages = (0..10).map(|one| message(&format!("m{ten}{one}"))).collect();
        stores.queue.push(messages, None).await.unwrap();
    }

    // Every second one is put back each time, so that the ready ones lie scattered among the claimed.
    let mut claimed = Vec::new();
    while claimed.len() < 100 {
        let some = stores.queue.claim(&Queues::Every, 7, Duration::ZERO).await.unwrap();
        assert!(!some.is_empty(), "only {} of 100 were found", claimed.len());
        let (keep, back): (Vec<_>, Vec<_>) = some.into_iter().enumerate().partition(|(index, _)| index % 2 == 0);
        claimed.extend(keep.into_iter().map(|(_, delivery)| delivery.message.id.to_string()));
        stores.queue.put_back(back.into_iter().map(|(_, delivery)| delivery).collect(), Duration::ZERO).await.unwrap();
    }

    claimed.sort();
    claimed.dedup();
    assert_eq!(claimed.len(), 100);
}
