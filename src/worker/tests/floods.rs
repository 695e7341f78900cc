//! Tasks that say and send more than is kept.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn of_a_log_the_first_lines_are_kept_and_of_a_line_its_beginning() {
    let script = "fn talk() { let t = \"\"; t.pad(5000, '한'); for i in 0..1005 { if i % 2 == 0 { info(t) } else { print(t) } } }";
    let mut shop = Shop::new(script, 1, true).await;
    let _open = shop.open();

    let run = shop.ended(&shop.send("it.talk").await).await;

    let (last, lines) = run.log.split_last().unwrap();
    assert_eq!((run.state, lines.len()), (State::Success, 999));
    assert!(lines.iter().all(|line| line.text.len() == 4_095), "a letter is not cut in two");
    assert_eq!(last.text, "… more lines were written and are not kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_reports_the_last_is_kept_while_the_task_runs() {
    let script = "fn count() {
                      for i in 1..=3000 { task::progress(i, 3000, `${i}`); }
                      while kv::get(\"gate\") != true { sleep(0.001); }
                  }";
    let mut shop = Shop::new(script, 1, true).await;
    let _open = shop.open();
    let id = shop.send("it.count").await;
    let last = async {
        loop {
            let run = shop.client.load(&id).await.unwrap().unwrap();
            if let Some(progress) = run.progress.filter(|progress| progress.done == 3_000.0) {
                return progress;
            }
            tokio::task::yield_now().await;
        }
    };

    let progress = tokio::time::timeout(PATIENCE, last).await.expect("the last report is kept");
    shop.say("gate").await;

    assert_eq!(progress.note.as_deref(), Some("3000"));
    assert!(shop.ended(&id).await.progress.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_sends_so_many_others_and_no_more() {
    let script = "fn parent() { for _i in 0..50 { delay(\"it.child\"); } delay(\"it.child\") }\nfn child() { 1 }";
    let mut shop = Shop::new(script, 1, true).await;
    let _open = shop.open();

    let run = shop.ended(&shop.send("it.parent").await).await;

    let why = run.error.unwrap();
    assert_eq!((run.children.len(), why.exc_type.as_str()), (50, "OverflowError"));
    assert_eq!(why.exc_message, "one task may send 50 tasks at the most");
}
