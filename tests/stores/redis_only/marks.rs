//! What is written down of a claimed task only a moment later, and what holds until then.

use umbel::store::Revoked;
use umbel::task::Run;

use super::*;

async fn seen(stores: &Stores, name: &str, fact: impl Fn(&Run) -> bool) -> Run {
    let end = Instant::now() + PATIENCE;
    loop {
        let run = stores.results.load(&id(name)).await.unwrap();
        if let Some(run) = run.filter(&fact) {
            return run;
        }
        assert!(Instant::now() < end, "it is never seen");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_celery_sent_is_soon_known_to_everybody() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;
    let mut envelope = captured("pub-01-send_task");
    envelope["headers"]["id"] = json!("m1");
    lpush(&mut raw, "celery", envelope);

    let _running = claim_one(&stores).await;

    let run = seen(&other, "m1", |run| run.state == State::Started).await;
    assert_eq!((run.task.as_str(), run.worker.as_deref()), ("tasks.add", Some("umbel@localhost")));
    let listed = other.history.search(&umbel::store::Filter { limit: 2, ..Default::default() }).await.unwrap();
    assert_eq!(listed.runs.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_before_it_is_written_down_is_kept_whole() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;
    let mut envelope = captured("pub-01-send_task");
    envelope["headers"]["id"] = json!("m1");
    lpush(&mut raw, "celery", envelope);

    let delivery = claim_one(&stores).await;
    assert_eq!(settle(&stores, &delivery, five()).await, Settled::Stored);

    let run = load(&other, "m1").await;
    assert_eq!(
        (run.state, run.task.as_str(), run.worker.as_deref()),
        (State::Success, "tasks.add", Some("umbel@localhost"))
    );
    assert_eq!((run.args.unwrap().get(), run.result.unwrap().get()), ("[2, 3]", "5"));
    let listed = other.history.search(&umbel::store::Filter { limit: 2, ..Default::default() }).await.unwrap();
    assert_eq!(listed.runs.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_of_a_task_that_others_claim_stays_true() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;
    push(&stores, messages(&["m1"])).await;
    let mut stops = stores.queue.terminations();
    let delivery = claim_one(&stores).await;

    let told = other.queue.revoke(&id("m1"), true).await.unwrap();

    // Whether it was written down before that is a race; either way whoever runs it hears of it.
    let stopped = tokio::time::timeout(PATIENCE, stops.recv()).await.expect("it is told").unwrap();
    assert_eq!(stopped, id("m1"));
    settle(&stores, &delivery, five()).await;
    let expected = if told == Revoked::BeforeStart { State::Revoked } else { State::Success };
    assert_eq!(state(&other, "m1").await, expected);
    let saved: Value = serde_json::from_str(&raw.get::<_, String>("celery-task-meta-m1").unwrap()).unwrap();
    assert_eq!(saved["status"], json!(expected.as_str()));
    assert_eq!(stores.queue.depth(&celery_queue()).await.unwrap().claimed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_celery_is_stopped_however_early_it_is_revoked() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;
    let mut stops = stores.queue.terminations();
    let mut envelope = captured("pub-01-send_task");
    envelope["headers"]["id"] = json!("m1");
    lpush(&mut raw, "celery", envelope);
    let _running = claim_one(&stores).await;

    other.queue.revoke(&id("m1"), true).await.unwrap();

    let stopped = tokio::time::timeout(PATIENCE, stops.recv()).await.expect("it is told").unwrap();
    assert_eq!(stopped, id("m1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_are_renewed_although_a_mark_cannot_be_written() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1", "m2"])).await;
    let deliveries = [claim_one(&stores).await, claim_one(&stores).await];
    let end = |raw: &mut Connection| raw.zrange_withscores::<_, Vec<(String, f64)>>("umbel:lease", 0, -1).unwrap();
    // Somebody else has used the name.
    let _: () = raw.del("umbel:run:m1").unwrap();
    let _: () = raw.set("umbel:run:m1", "something").unwrap();
    stores.queue.started(&deliveries[0].receipt);
    let before = end(&mut raw);

    assert!(stores.queue.keep_alive().await.unwrap().is_empty());

    let after = end(&mut raw);
    assert!(before.len() == 2 && before.iter().zip(&after).all(|(before, after)| after.1 > before.1), "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_while_it_is_written_down_takes_nothing_along() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;
    // More than one call of the script.
    let names: Vec<String> = (0..700).map(|n| format!("m{n}")).collect();
    push(&stores, messages(&names.iter().map(String::as_str).collect::<Vec<_>>())).await;
    let claimed = claim(&stores, names.len()).await;
    assert_eq!(claimed.len(), names.len());

    redis::cmd("CLIENT").arg("PAUSE").arg(60_000).arg("WRITE").exec(&mut raw).unwrap();
    let asked = tokio::time::timeout(Duration::from_millis(50), stores.results.load(&id("m0"))).await;
    redis::cmd("CLIENT").arg("UNPAUSE").exec(&mut raw).unwrap();

    assert!(asked.is_err(), "nobody is answered while everything is being written down");
    for name in &names {
        seen(&other, name, |run| run.state == State::Started).await;
    }
}
