//! What only the store in a file promises: files of older versions, and copies of a store that is used.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rusqlite::Connection;
use tempfile::TempDir;
use umbel::store::{self, Filter, Settings, Settlement, Stores};
use umbel::task::State;

use crate::place::{claim, claim_one, five, id, ids, load, message, messages, push, settle, settlement, state};

const URL: &str = "sqlite:umbel.db";

async fn open(folder: &Path) -> Stores {
    store::open(URL, folder, Settings::default()).await.unwrap()
}

fn back_up(folder: &TempDir, to: &Path) -> Result<u64, String> {
    store::backup(URL, folder.path(), to).map_err(|error| error.to_string())
}

// A database as the first version left it: one task ended, one failed, two wait, one is delayed.
fn first_version(folder: &TempDir) -> Connection {
    let db = Connection::open(folder.path().join("umbel.db")).unwrap();
    db.execute_batch(include_str!("schema_1.sql")).unwrap();
    db.pragma_update(None, "user_version", 1).unwrap();
    for (number, state, turn, due, finished) in [
        (1, "SUCCESS", 1, "NULL", "1000"),
        (2, "FAILURE", 2, "NULL", "2000"),
        (3, "QUEUED", 3, "NULL", "NULL"),
        (4, "QUEUED", 4, "NULL", "NULL"),
        (5, "SCHEDULED", 0, "4102444800000000", "NULL"),
    ] {
        db.execute_batch(&format!(
            "INSERT INTO task (id, name, queue, priority, retries, body, state, step, turn, due_at, queued_at, \
             finished_at) VALUES ('m{number}', 'math.add', 'celery', 0, 0, CAST('[[2, 3], {{}}, {{}}]' AS BLOB), \
             '{state}', 0, {turn}, {due}, 500, {finished})"
        ))
        .unwrap();
    }
    db
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_first_version_is_taken_over_with_all_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    drop(first_version(&folder));

    let stores = open(folder.path()).await;

    for (number, expected) in
        [(1, State::Success), (2, State::Failure), (3, State::Queued), (4, State::Queued), (5, State::Scheduled)]
    {
        assert_eq!(state(&stores, &format!("m{number}")).await, expected, "m{number}");
    }
    let failed = Filter { state: Some(State::Failure), limit: 10, ..Filter::default() };
    assert_eq!(stores.history.search(&failed).await.unwrap().runs[0].id, id("m2"));
    let facts = &stores.queue.queues().await.unwrap()[0];
    assert_eq!((facts.depth.ready, facts.depth.delayed), (2, 1));
    push(&stores, messages(&["m6"])).await;
    assert_eq!(ids(&claim(&stores, 10).await), ["m3", "m4", "m6"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_schema_that_fails_half_way_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let db = first_version(&folder);
    // Stands in the way of a later part of the change.
    db.execute_batch("CREATE TABLE source (theirs)").unwrap();
    let schema = |db: &Connection| -> Vec<String> {
        let mut look = db.prepare("SELECT name FROM sqlite_master ORDER BY name").unwrap();
        let names = look.query_map([], |row| row.get(0)).unwrap();
        names.map(Result::unwrap).collect()
    };
    let before = schema(&db);

    let refused = store::open(URL, folder.path(), Settings::default()).await.map(drop).unwrap_err().to_string();

    assert!(refused.contains("umbel.db`"), "{refused}");
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!((version, schema(&db)), (1, before));
    db.execute_batch("DROP TABLE source").unwrap();
    drop(db);
    assert_eq!(ids(&claim(&open(folder.path()).await, 10).await), ["m3", "m4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_one_moment_of_a_store_that_works_on() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path()).await;
    for thousand in 0..10 {
        let some = (0..1_000).map(|one| message(&format!("before-{thousand}-{one}"))).collect();
        push(&stores, some).await;
    }
    // Each end sends a follow-up in the same step, so that a copy holds both or neither.
    let (stop, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let works = {
        let (stores, stop, ended) = (stores.clone(), stop.clone(), ended.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let delivery = claim_one(&stores).await;
                let follow_ups = vec![message(&format!("after-{}", delivery.message.id))];
                let settlement = Settlement { follow_ups, ..settlement(&delivery, five()) };
                stores.queue.settle(settlement.into()).await.unwrap();
                ended.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    while ended.load(Ordering::Relaxed) < 50 {
        tokio::task::yield_now().await;
    }

    let (home, copies) = (folder.path().to_owned(), folder.path().join("copies"));
    std::fs::create_dir(&copies).unwrap();
    let to = copies.join("umbel.db");
    let target = to.clone();
    let before = ended.load(Ordering::Relaxed);
    let copied = tokio::task::spawn_blocking(move || store::backup(URL, &home, &target)).await.unwrap().unwrap();
    let meanwhile = ended.load(Ordering::Relaxed) - before;
    stop.store(true, Ordering::Relaxed);
    works.await.unwrap();

    assert!(meanwhile > 0, "nothing was settled while the copy was made");
    assert_eq!(copied, std::fs::metadata(&to).unwrap().len());
    let db = Connection::open(&to).unwrap();
    let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs();
    let (well, followed) = (
        count("SELECT count(*) FROM task WHERE state = 'SUCCESS'"),
        count("SELECT count(*) FROM task WHERE id LIKE 'after-%'"),
    );
    assert_eq!((sound.as_str(), well), ("ok", followed));
    assert!(well >= before && count("SELECT count(*) FROM task") == 10_000 + well, "{well} of {before} and more");
    drop(db);
    let copy = open(&copies).await;
    let delivery = claim_one(&copy).await;
    settle(&copy, &delivery, five()).await;
    assert_eq!(load(&copy, delivery.message.id.as_str()).await.state, State::Success);
    let of_the_copy = |name: std::ffi::OsString| name.to_string_lossy().contains(".part");
    assert!(!std::fs::read_dir(&copies).unwrap().any(|entry| of_the_copy(entry.unwrap().file_name())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_nobody_uses_is_copied_too() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path()).await;
    push(&stores, messages(&["m1"])).await;
    drop(stores);
    std::fs::create_dir(folder.path().join("copies")).unwrap();

    back_up(&folder, &folder.path().join("copies/umbel.db")).unwrap();

    let copy = open(&folder.path().join("copies")).await;
    assert_eq!(ids(&claim(&copy, 10).await), ["m1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_cannot_be_made_says_why_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("copy.db");
    let nothing_there = back_up(&folder, &to).unwrap_err();
    drop(open(folder.path()).await);
    std::fs::write(&to, "mine").unwrap();
    let taken = back_up(&folder, &to).unwrap_err();
    std::fs::remove_file(&to).unwrap();
    let no_folder = back_up(&folder, &folder.path().join("none/copy.db")).unwrap_err();
    std::fs::write(folder.path().join("umbel.db"), "no database at all, ".repeat(500)).unwrap();
    let no_database = back_up(&folder, &to).unwrap_err();
    let of_redis = store::backup("redis://127.0.0.1:1/0", folder.path(), &to).unwrap_err().to_string();

    for (said, part) in [
        (nothing_there, "umbel.db` cannot be read"),
        (taken, "copy.db` exists already"),
        (no_folder, "none/copy.db`"),
        (no_database, "umbel.db` is no SQLite database"),
        (of_redis, "redis-cli --rdb"),
    ] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("copy.db")), "{left:?}");
}
