//! A command or a commit that fails: its caller hears of it, and what is in memory is what is in the file.

use std::sync::Arc;

use super::*;
use crate::store::embedded::file::Outcome;
use crate::store::embedded::writer::Command;
use crate::store::outage::tests::Paper;
use crate::task::Priority;

fn start(settings: Settings) -> (Arc<Embedded>, Stores) {
    let embedded = Embedded::start(&File::in_memory(), None, settings).unwrap();
    (embedded.clone(), embedded.stores())
}

async fn execute(embedded: &Embedded, sql: &'static str) {
    embedded.writer.write(move |desk| Ok(desk.db.execute_batch(sql)?)).await.unwrap();
}

/// Runs `work` in a transaction that is refused only when it is committed, for what it owes.
async fn fail_to_commit<T: Send + 'static>(
    embedded: &Embedded,
    work: impl FnOnce(&mut Desk) -> Outcome<T> + Send + 'static,
) {
    let debts = "CREATE TABLE IF NOT EXISTS owed (id INTEGER PRIMARY KEY); \
        CREATE TABLE IF NOT EXISTS debt (to_whom REFERENCES owed DEFERRABLE INITIALLY DEFERRED)";
    execute(embedded, debts).await;
    let committed = embedded.writer.write(move |desk| {
        let done = work(desk)?;
        desk.db.execute("INSERT INTO debt VALUES (1)", ())?;
        Ok(done)
    });
    let Err(error) = committed.await else { panic!("the commit was answered as if it were made") };
    assert!(error.to_string().contains("FOREIGN KEY"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_failed_leaves_no_mark_on_a_claim() {
    let (embedded, stores) = start(Settings::default());
    stores.queue.push(vec![message("m1")], None).await.unwrap();
    let claimed = stores.queue.claim(&Queues::Every, 1, PATIENCE).await.unwrap();
    let receipt = claimed[0].receipt.clone();

    fail_to_commit(&embedded, move |desk| {
        desk.mark_claimed(Utc::now())?;
        desk.acknowledge(&receipt)?;
        desk.revoke(&receipt.id, false, Utc::now())
    })
    .await;

    assert!(!stores.queue.is_revoked(&claimed[0].receipt).await.unwrap());
    stores.queue.keep_alive().await.unwrap();
    let is_held = |desk: &mut Desk| Ok(desk.db.query_row("SELECT held FROM task", (), |row| row.get::<_, bool>(0))?);
    assert!(embedded.writer.write(is_held).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn results_whose_dropping_was_not_committed_are_dropped_later() {
    let (embedded, stores) = start(Settings { keep: Duration::ZERO, ..Settings::default() });
    stores.queue.push(vec![message("m1")], None).await.unwrap();
    let claimed = stores.queue.claim(&Queues::Every, 1, PATIENCE).await.unwrap();
    stores.queue.settle(success(&claimed[0]).into()).await.unwrap();
    let result = async || stores.results.load(&claimed[0].message.id).await.unwrap().unwrap().result;

    fail_to_commit(&embedded, |desk| desk.tidy(Utc::now())).await;

    assert!(result().await.is_some());
    stores.queue.keep_alive().await.unwrap();
    assert!(result().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_that_nobody_took_wait_again_once_that_can_be_written() {
    let (embedded, stores) = start(Settings::default());
    stores.queue.push(vec![message("m1")], None).await.unwrap();
    let claimed = stores.queue.claim(&Queues::Every, 1, PATIENCE).await.unwrap();
    // So that its row is written when it is given back.
    stores.queue.keep_alive().await.unwrap();
    execute(&embedded, "CREATE TRIGGER refuses BEFORE UPDATE ON task BEGIN SELECT RAISE(ABORT, 'for this test'); END")
        .await;
    embedded.writer.send(Command::Release(vec![claimed[0].receipt.clone()])).unwrap();
    execute(&embedded, "DROP TRIGGER refuses").await;
    assert!(stores.queue.claim(&Queues::Every, 1, Duration::ZERO).await.unwrap().is_empty(), "nothing was refused");

    stores.queue.keep_alive().await.unwrap();

    assert_eq!(stores.queue.claim(&Queues::Every, 1, Duration::ZERO).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_before_a_claim_failed_is_claimed_later() {
    let (embedded, stores) = start(Settings::default());
    let later = NewMessage { priority: Priority(9), ..draft("later") }.build();
    let sooner = NewMessage { priority: Priority(0), ..draft("sooner") }.build();
    stores.queue.push(vec![sooner, later], None).await.unwrap();
    execute(&embedded, "UPDATE task SET priority = 300 WHERE id = 'later'").await;
    stores.queue.claim(&Queues::Every, 2, PATIENCE).await.unwrap_err();
    execute(&embedded, "UPDATE task SET priority = 9 WHERE id = 'later'").await;

    assert_eq!(stores.queue.claim(&Queues::Every, 2, Duration::ZERO).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_tidy_is_alive_all_the_same() {
    let (embedded, stores) = start(Settings::default());
    execute(&embedded, "ALTER TABLE kv RENAME TO elsewhere").await;
    embedded.writer.write(|desk| desk.tidy(Utc::now())).await.unwrap_err();

    stores.queue.keep_alive().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_once_and_so_is_its_end() {
    let (embedded, stores) = start(Settings::default());
    let paper = Paper::default();
    let subscriber = tracing_subscriber::fmt().with_writer(paper.clone()).with_ansi(false).finish();
    let listen = |_: &mut Desk| {
        // For as long as the writer's thread lives.
        std::mem::forget(tracing::subscriber::set_default(subscriber));
        Ok(())
    };
    embedded.writer.write(listen).await.unwrap();
    let push = async |id: &str| {
        let mut large = message(id);
        large.body = vec![b' '; 1 << 20].into();
        stores.queue.push(vec![large], None).await
    };
    limit_pages(&embedded, 60).await;

    for _ in 0..3 {
        assert!(matches!(push("m1").await, Err(Error::Full { .. })));
    }
    limit_pages(&embedded, 1_000_000).await;
    push("m1").await.unwrap();
    push("m2").await.unwrap();

    let said = paper.said();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].contains("ERROR") && lines[0].contains("the store in memory cannot grow"), "{said}");
    assert!(lines[1].contains("INFO") && lines[1].contains("the store in memory can be used again"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_a_full_store_is_told_until_there_is_room() {
    let (embedded, stores) = start(Settings::default());
    stores.queue.ping().await.unwrap();
    limit_pages(&embedded, 1).await;
    let mut large = message("m1");
    large.body = vec![b' '; 1 << 20].into();
    assert!(matches!(stores.queue.push(vec![large], None).await, Err(Error::Full { .. })));

    let asked = [stores.queue.ping().await, stores.queue.ping().await];
    limit_pages(&embedded, 1_000_000).await;

    assert!(asked.iter().all(|answer| matches!(answer, Err(Error::Full { .. }))), "{asked:?}");
    stores.queue.ping().await.unwrap();
    stores.queue.keep_alive().await.unwrap();
    let left = |desk: &mut Desk| Ok(desk.db.query_row("SELECT count(*) FROM kv", (), |row| row.get::<_, u32>(0))?);
    assert_eq!(embedded.writer.write(left).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_a_transaction_is_told_to_all_that_were_in_it() {
    let (embedded, _stores) = start(Settings::default());
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let broken = |desk: &mut Desk| -> Outcome<()> {
        // What SQLite does when a disk fails.
        desk.db.execute_batch("ROLLBACK")?;
        let why = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_WRITE);
        Err(rusqlite::Error::SqliteFailure(why, None).into())
    };
    let begun = Arc::new(tokio::sync::Notify::new());
    let standing = {
        let begun = begun.clone();
        move |_: &mut Desk| {
            begun.notify_one();
            let _ = gate.recv();
            Ok(())
        }
    };
    let together = async {
        // While the writer stands, others gather.
        begun.notified().await;
        let first = embedded.writer.write(|desk| Ok(desk.execute("INSERT INTO kv VALUES ('a', '1', NULL)", ())?));
        let last = embedded.writer.write(|desk| Ok(desk.execute("INSERT INTO kv VALUES ('b', '1', NULL)", ())?));
        let opened = async { open.send(()).unwrap() };
        tokio::join!(biased; first, embedded.writer.write(broken), last, opened)
    };

    let (_, (first, broken, last, ())) = tokio::join!(embedded.writer.write(standing), together);

    for answer in [first.map(drop), broken, last.map(drop)] {
        assert!(
            matches!(&answer, Err(Error::Away { reason }) if reason.contains("cannot be read or written")),
            "{answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_row_that_is_no_message_holds_nothing_up() {
    let (embedded, stores) = start(Settings::default());
    let later = |id: &str| NewMessage { eta: Some(Utc::now() + Duration::from_secs(3_600)), ..draft(id) }.build();
    stores.queue.push(vec![later("broken"), later("whole")], None).await.unwrap();
    execute(&embedded, "UPDATE task SET due_at = 1; UPDATE task SET queue = '' WHERE id = 'broken'").await;
    embedded.writer.write(|desk| Ok(desk.find_next_due()?)).await.unwrap();

    let claimed = stores.queue.claim(&Queues::Every, 2, PATIENCE).await.unwrap();

    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].message.id.as_str(), "whole");
    stores.queue.push(vec![message("next")], None).await.unwrap();
}
