//! How a worker goes on when the store fails.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_fails_is_tried_again() {
    let mut shop = Shop::new("task(\"once\", #{ acks_late: false });\nfn once() { 7 }", 1, true).await;
    shop.trouble.acknowledgements_fail.store(1, Ordering::Relaxed);
    let _open = shop.open();

    let id = shop.send("it.once").await;

    assert_eq!(shop.ended(&id).await.result.unwrap().get(), "7");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_lease_cannot_be_renewed_stands_still_until_it_is() {
    let script = "fn wait() { kv::set(\"begun\", true); while kv::get(\"gate\") != true { sleep(0.001); } 7 }";
    let mut shop = Shop::new(script, 1, false).await;
    let floor = shop.worker.as_ref().unwrap().floor.clone();
    shop.trouble.no_renewal.store(true, Ordering::Relaxed);
    let _open = shop.open();
    let id = shop.send("it.wait").await;
    shop.has_begun().await;
    while !floor.running.is_held() {
        tokio::task::yield_now().await;
    }

    shop.say("gate").await;
    let meanwhile = shop.client.wait(&id, Duration::from_millis(300)).await.unwrap().unwrap();
    shop.trouble.no_renewal.store(false, Ordering::Relaxed);

    assert!(!meanwhile.state.is_final(), "{meanwhile:?}");
    assert_eq!(shop.ended(&id).await.result.unwrap().get(), "7");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_is_put_back_as_soon_as_the_store_can_be_reached() {
    let mut shop = Shop::new("fn nap() { sleep(60) }", 1, true).await;
    let floor = shop.worker.as_ref().unwrap().floor.clone();
    (0..100).for_each(|_| floor.pace.note(Duration::from_micros(5)));
    shop.trouble.returns_fail.store(1, Ordering::Relaxed);
    shop.send("it.nap").await;
    shop.send("it.nap").await;
    let _open = shop.open();

    tokio::time::timeout(PATIENCE, shop.trouble.put_back.notified()).await.expect("it was put back");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_does_not_take_is_a_failure_in_the_end() {
    let mut shop = Shop::new("fn seven() { 7 }", 1, true).await;
    shop.trouble.settlements_fail.store(8, Ordering::Relaxed);
    let _open = shop.open();

    let id = shop.send("it.seven").await;

    let run = shop.ended(&id).await;
    let error = run.error.unwrap();
    assert_eq!((run.state, error.exc_type.as_str()), (State::Failure, "BackendStoreError"));
    assert!(error.exc_message.contains("too large"), "{}", error.exc_message);
}
