//! What goes when it is too old or too much.

use super::*;

async fn run(stores: &Stores, id: &str) {
    stores.queue.push(vec![message(id)], None).await.unwrap();
    let claimed = stores.queue.claim(&Queues::Every, 1, PATIENCE).await.unwrap();
    stores.queue.settle(success(&claimed[0]).into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_ended_long_ago_leave_the_history_and_what_waits_stays() {
    let settings = Settings { history_keep: Duration::from_millis(300), ..Settings::default() };
    let stores = open_in_memory(settings).unwrap();
    stores
        .queue
        .push(vec![NewMessage { eta: Some(Utc::now() + Duration::from_secs(60)), ..draft("waits") }.build()], None)
        .await
        .unwrap();
    for number in 0..20 {
        run(&stores, &format!("m{number}")).await;
    }
    let known = async |id: &str| stores.results.load(&TaskId::parse(id).unwrap()).await.unwrap().is_some();
    stores.queue.keep_alive().await.unwrap();
    assert!(known("m19").await, "it has just ended");

    let gone = async {
        while known("m19").await {
            stores.queue.keep_alive().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it leaves");

    assert!(!known("m0").await);
    assert!(known("waits").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_shrinks_after_a_flood_and_its_log_is_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open_with(&folder, Settings { history: 10, ..Settings::default() }).unwrap();
    let size = |name: &str| std::fs::metadata(folder.path().join("data").join(name)).unwrap().len();
    for hundred in 0..40 {
        let flood = (0..100).map(|one| {
            let mut large = message(&format!("m{hundred}-{one}"));
            large.body = vec![b' '; 8_192].into();
            large
        });
        stores.queue.push(flood.collect(), None).await.unwrap();
    }
    stores.queue.push(vec![message("stays")], None).await.unwrap();
    let flooded = size("umbel.db") + size("umbel.db-wal");

    assert_eq!(stores.queue.purge(&QueueName::default()).await.unwrap(), 4_001);
    stores.queue.push(vec![message("new")], None).await.unwrap();

    let shrunk = async {
        while size("umbel.db") > 8 << 20 || size("umbel.db-wal") > 0 {
            stores.queue.keep_alive().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, shrunk).await.expect("it shrinks");
    assert!(flooded > 32 << 20, "{flooded}");
    let waiting = stores.queue.claim(&Queues::Every, 10, PATIENCE).await.unwrap();
    assert_eq!(waiting[0].message.id.as_str(), "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sources_that_were_not_kept_for_the_longest_time_go_first() {
    let embedded = Embedded::start(&File::in_memory(), None, Settings::default()).unwrap();
    let stores = embedded.clone().stores();
    let source = |hash: &str| Source { hash: hash.into(), files: [("a".to_owned(), "x".repeat(100))].into() };
    for hash in ["c1", "c2", "c3", "c1"] {
        stores.sources.keep(vec![source(hash)]).await.unwrap();
    }
    let kept = async || {
        let mut kept = Vec::new();
        for hash in ["c1", "c2", "c3"] {
            kept.extend(stores.sources.source(hash).await.unwrap().map(|source| source.hash));
        }
        kept
    };

    embedded.writer.write(|desk| Ok(desk.drop_oldest_sources(2, 1 << 20)?)).await.unwrap();
    assert_eq!(kept().await, ["c1", "c3"]);
    embedded.writer.write(|desk| Ok(desk.drop_oldest_sources(2, 150)?)).await.unwrap();
    assert_eq!(kept().await, ["c1"]);
}
