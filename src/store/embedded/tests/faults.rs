//! Disks and files that are not as they should be: said in plain words, and nothing is corrupted.

use std::io::{Seek, SeekFrom, Write};

use super::*;

/// A user who is not root.
const SOMEBODY: u32 = 1;

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_became_read_only_says_so_and_works_again_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = Embedded::start(&File::On(folder.path().join("umbel.db")), None, Settings::default()).unwrap();
    let stores = embedded.clone().stores();
    stores.queue.push(vec![message("m1")], None).await.unwrap();
    let claimed = stores.queue.claim(&Queues::Every, 1, PATIENCE).await.unwrap();

    let settlement = success(&claimed[0]);
    let refused = embedded.writer.write(move |desk| {
        // To SQLite this is what a disk is that was mounted read-only.
        desk.db.pragma_update(None, "query_only", true)?;
        let settled = desk.settle(&settlement, Utc::now()).map_err(|fault| desk.explain(fault));
        let pushed = desk.push(&[message("m2")], None, Utc::now()).map_err(|fault| desk.explain(fault));
        desk.db.pragma_update(None, "query_only", false)?;
        Ok([settled.map(drop), pushed.map(drop)])
    });

    for answer in refused.await.unwrap() {
        assert!(
            matches!(&answer, Err(Error::Away { reason }) if reason.contains("umbel.db` cannot be written")
                && reason.contains("read-only")),
            "{answer:?}"
        );
    }
    assert_eq!(stores.results.load(&claimed[0].message.id).await.unwrap().unwrap().state, State::Started);
    assert_eq!(stores.queue.settle(success(&claimed[0]).into()).await.unwrap(), Settled::Stored);
    stores.queue.push(vec![message("m2")], None).await.unwrap();
    assert_eq!(stores.queue.queues().await.unwrap()[0].depth.ready, 1);
}

#[test]
fn a_damaged_file_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_in(&folder).unwrap());
    let path = folder.path().join("data/umbel.db");
    let size = std::fs::metadata(&path).unwrap().len();
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(100)).unwrap();
    file.write_all(&vec![0xa5; size as usize - 100]).unwrap();
    drop(file);

    let refused = refusal(&folder);

    assert!(refused.contains("umbel.db` is damaged; restore it from a backup"), "{refused}");
}

#[test]
fn a_folder_in_its_place_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("data/umbel.db")).unwrap();

    let refused = refusal(&folder);

    assert!(refused.contains("umbel.db` cannot be opened: look at its folder"), "{refused}");
}

#[test]
fn a_running_file_that_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("data/umbel.db-running")).unwrap();

    let refused = refusal(&folder);

    assert!(refused.contains("umbel.db-running` cannot be read and written"), "{refused}");
}

#[test]
fn a_file_that_may_not_be_written_is_refused_by_name() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let folder = tempfile::tempdir().unwrap();
    drop(open_in(&folder).unwrap());
    let data = folder.path().join("data");
    std::fs::set_permissions(data.join("umbel.db"), std::fs::Permissions::from_mode(0o444)).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        let kept: Vec<_> = std::fs::read_dir(&data).unwrap().map(|file| file.unwrap().path()).collect();
        [folder.path(), &data]
            .into_iter()
            .chain(kept.iter().map(|path| &**path))
            .for_each(|path| chown(path, Some(SOMEBODY), None).unwrap());
    }

    let refused = std::thread::scope(|scope| {
        let opening = || {
            // Root may write anywhere.
            if is_root {
                rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(SOMEBODY)).unwrap();
            }
            refusal(&folder)
        };
        scope.spawn(opening).join().unwrap()
    });

    assert!(refused.contains("umbel.db` cannot be written") && refused.contains("read-only"), "{refused}");
}

#[tokio::test]
async fn deliveries_that_could_not_be_put_back_together_are_put_back_later() {
    let embedded = Embedded::start(&File::in_memory(), None, Settings::default()).unwrap();
    let queue = embedded.clone().stores().queue;
    queue.push(vec![message("m1"), message("m2")], None).await.unwrap();
    let claimed = queue.claim(&Queues::Every, 2, PATIENCE).await.unwrap();
    assert_eq!(claimed.len(), 2);
    // So that their rows are written when they are put back.
    queue.keep_alive().await.unwrap();
    let execute = |sql: &'static str| embedded.writer.write(move |desk| Ok(desk.db.execute_batch(sql)?));
    execute(
        "CREATE TRIGGER refuses BEFORE UPDATE ON task WHEN NEW.id = 'm2' BEGIN SELECT RAISE(ABORT, 'for this test'); END",
    )
    .await
    .unwrap();
    queue.put_back(claimed.clone(), Duration::ZERO).await.unwrap_err();
    execute("DROP TRIGGER refuses").await.unwrap();

    queue.put_back(claimed, Duration::ZERO).await.unwrap();

    assert_eq!(queue.claim(&Queues::Every, 2, PATIENCE).await.unwrap().len(), 2);
}
