use std::collections::BTreeSet;
use std::time::Duration;

use chrono::Utc;
use umbel::store::{Attempt, Ending, Error, Filter, Settlement, Stores};
use umbel::task::{Failure, LogLine, NewMessage, State, to_json};

use crate::place::{
    MOMENT, Place, claim, claim_one, draft, five, id, ids, message, open, push, queue, run, settle, settlement,
};

// A page may be short and not the last, so a test follows the cursors; never more often than this.
const MOST_PAGES: usize = 1_000;

async fn page(stores: &Stores, filter: &Filter, cursor: Option<String>) -> (Vec<String>, Option<String>) {
    let filter = Filter { cursor, ..filter.clone() };
    let page = stores.history.search(&filter).await.unwrap();
    assert!(page.runs.len() <= filter.limit, "{} runs on a page of {}", page.runs.len(), filter.limit);
    (page.runs.into_iter().map(|run| run.id.to_string()).collect(), page.next)
}

async fn rest(stores: &Stores, filter: &Filter, mut cursor: Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for _ in 0..MOST_PAGES {
        let (some, next) = page(stores, filter, cursor).await;
        found.extend(some);
        match next {
            None => return found,
            next => cursor = next,
        }
    }
    panic!("no page was the last");
}

async fn all(stores: &Stores, filter: Filter) -> Vec<String> {
    rest(stores, &filter, None).await
}

fn any(limit: usize) -> Filter {
    Filter { limit, ..Filter::default() }
}

fn names(numbers: impl Iterator<Item = u32>) -> Vec<String> {
    numbers.map(|number| format!("m{number}")).collect()
}

async fn run_many(stores: &Stores, numbers: std::ops::Range<u32>) {
    for name in names(numbers) {
        run(stores, message(&name), five()).await;
    }
}

pub async fn a_page_of_much_is_short_and_leads_on<P: Place>() {
    let place: P = open().await;
    let large = |name: &str| NewMessage { args: Some(to_json(&["x".repeat(4_000)])), ..draft(name) }.build();
    let sent = names(0..600);
    push(place.stores(), sent.iter().map(|name| large(name)).collect()).await;

    let (first, next) = page(place.stores(), &any(1_000), None).await;

    assert!(next.is_some() && (200..300).contains(&first.len()), "{} runs show 4,000 bytes each", first.len());
    let listed = [first, rest(place.stores(), &any(1_000), next).await].concat();
    assert_eq!(listed.iter().collect::<BTreeSet<_>>(), sent.iter().collect());
    assert_eq!(listed.len(), sent.len());
}

pub async fn a_page_follows_its_cursor_though_new_names_come_in<P: Place>() {
    let place: P = open().await;
    let named = |number: u32| NewMessage { task: format!("n.task{number}"), ..draft(&format!("m{number}")) }.build();
    push(place.stores(), (0..150).map(named).collect()).await;
    let filters = [None, Some(State::Queued)].map(|state| Filter { name: Some("n.*".into()), state, ..any(20) });
    let mut cursors = Vec::new();
    for filter in &filters {
        let (first, next) = page(place.stores(), filter, None).await;
        assert_eq!(first, names((130..150).rev()));
        cursors.push(next);
    }

    push(place.stores(), (150..400).map(named).collect()).await;

    for (filter, next) in filters.iter().zip(cursors) {
        assert_eq!(rest(place.stores(), filter, next).await, names((0..130).rev()), "{filter:?}");
    }
}

pub async fn pages_follow_one_another_to_the_end<P: Place>() {
    let place: P = open().await;
    run_many(place.stores(), 0..10).await;

    for limit in [1, 3, 5, 10, 11] {
        assert_eq!(all(place.stores(), any(limit)).await, names((0..10).rev()), "by {limit}");
    }
    assert_eq!(page(place.stores(), &any(20), None).await.1, None);
}

pub async fn a_page_follows_its_cursor_though_new_runs_come_in<P: Place>() {
    let place: P = open().await;
    run_many(place.stores(), 0..6).await;
    let ended = Filter { state: Some(State::Success), ..any(2) };
    let (first, cursor) = page(place.stores(), &any(2), None).await;
    let (first_ended, cursor_ended) = page(place.stores(), &ended, None).await;

    run_many(place.stores(), 6..12).await;

    assert_eq!(first, names((4..6).rev()));
    assert_eq!(rest(place.stores(), &any(2), cursor).await, names((0..4).rev()));
    assert_eq!(first_ended, names((4..6).rev()));
    assert_eq!(rest(place.stores(), &ended, cursor_ended).await, names((0..4).rev()));
}

pub async fn every_state_is_paged<P: Place>() {
    let place: P = open().await;
    let stores = place.stores();
    let later = Utc::now() + Duration::from_secs(3_600);
    let no = || Failure::builtin("ValueError", "no");
    for number in 0..3 {
        run(stores, message(&format!("success{number}")), five()).await;
        run(stores, message(&format!("failure{number}")), Ending::Failure(no())).await;
        run(stores, message(&format!("revoked{number}")), Ending::Revoked { reason: "expired" }).await;
        let next = Box::new(message(&format!("retry{number}")).retry(later));
        run(stores, message(&format!("retry{number}")), Ending::Retry { next, why: no() }).await;
        push(stores, vec![NewMessage { eta: Some(later), ..draft(&format!("scheduled{number}")) }.build()]).await;
    }
    for number in 0..3 {
        push(stores, vec![message(&format!("started{number}"))]).await;
    }
    assert_eq!(claim(stores, 3).await.len(), 3);
    for number in 0..3 {
        push(stores, vec![message(&format!("queued{number}"))]).await;
    }

    for state in State::ALL {
        let found = all(stores, Filter { state: Some(state), ..any(2) }).await;
        let name = state.as_str().to_lowercase();
        let expected: Vec<String> = (0..3).rev().map(|number| format!("{name}{number}")).collect();
        assert_eq!(found, expected, "{name}");
    }
    assert_eq!(all(stores, any(4)).await.into_iter().collect::<BTreeSet<_>>().len(), 21);
}

pub async fn a_star_finds_names_that_begin_so<P: Place>() {
    let place: P = open().await;
    for (number, task) in
        ["reports.daily", "reports.weekly", "reportsx", "r%ports.daily", "보고.일간"].iter().enumerate()
    {
        let sent = NewMessage { task: (*task).into(), ..draft(&format!("m{number}")) };
        run(place.stores(), sent.build(), five()).await;
        run(place.stores(), message(&format!("other{number}")), five()).await;
    }

    let named = async |name: &str| all(place.stores(), Filter { name: Some(name.into()), ..any(2) }).await;

    assert_eq!(named("reports.*").await, ["m1", "m0"]);
    assert_eq!(named("reports*").await, ["m2", "m1", "m0"]);
    assert_eq!(named("r%*").await, ["m3"]);
    assert_eq!(named("보고*").await, ["m4"]);
    assert_eq!(named("reports.daily").await, ["m0"]);
    assert!(named("Reports.*").await.is_empty());
    assert_eq!(named("*").await.len(), 10);
}

pub async fn runs_are_found_by_queue<P: Place>() {
    let place: P = open().await;
    for (name, of) in [("m1", "io"), ("m2", "mail"), ("m3", "io")] {
        push(place.stores(), vec![NewMessage { queue: queue(of), ..draft(name) }.build()]).await;
    }

    let of = async |name: &str, state| {
        let filter = Filter { queue: Some(queue(name)), state, ..any(1) };
        all(place.stores(), filter).await
    };

    assert_eq!(of("io", None).await, ["m3", "m1"]);
    assert_eq!(of("io", Some(State::Queued)).await, ["m3", "m1"]);
    assert_eq!(of("mail", None).await, ["m2"]);
    assert!(of("celery", None).await.is_empty());
}

pub async fn runs_are_found_since_a_time<P: Place>() {
    let place: P = open().await;
    run_many(place.stores(), 0..2).await;
    tokio::time::sleep(MOMENT).await;
    let between = Utc::now();
    tokio::time::sleep(MOMENT).await;
    run_many(place.stores(), 2..4).await;

    let since = async |time, state| all(place.stores(), Filter { since: Some(time), state, ..any(1) }).await;

    for state in [None, Some(State::Success)] {
        assert_eq!(since(between, state).await, names((2..4).rev()));
        assert_eq!(since(between - Duration::from_secs(60), state).await.len(), 4);
        assert!(since(Utc::now() + Duration::from_secs(60), state).await.is_empty());
    }
}

pub async fn runs_are_found_by_text<P: Place>() {
    let place: P = open().await;
    let stores = place.stores();
    let with_args = NewMessage { args: Some(to_json(&["Größe 100%", "서울"])), ..draft("in-args") };
    let with_kwargs =
        NewMessage { kwargs: Some(to_json(&serde_json::json!({ "city": "Busan" }))), ..draft("in-kwargs") };
    run(stores, with_args.build(), five()).await;
    run(stores, with_kwargs.build(), five()).await;
    run(stores, NewMessage { task: "mail.Deliver".into(), ..draft("in-name") }.build(), five()).await;
    run(stores, message("in-result"), Ending::Success { result: Some(to_json(&"Parcel 77")) }).await;
    run(stores, message("in-error"), Ending::Failure(Failure::builtin("ValueError", "No such Planet"))).await;

    let with = async |text: &str| all(stores, Filter { q: Some(text.into()), ..any(2) }).await;

    assert_eq!(with("größe").await, ["in-args"]);
    assert_eq!(with("GRÖSSE").await, Vec::<String>::new());
    assert_eq!(with("0%").await, ["in-args"]);
    assert_eq!(with("서울").await, ["in-args"]);
    assert_eq!(with("bUSAN").await, ["in-kwargs"]);
    assert_eq!(with("mail.deliver").await, ["in-name"]);
    assert_eq!(with("PARCEL").await, ["in-result"]);
    assert_eq!(with("planet").await, ["in-error"]);
    assert_eq!(with("valueerror").await, ["in-error"]);
    assert_eq!(with("IN-A").await, ["in-args"]);
    assert_eq!(with("").await.len(), 5);
    assert!(with("nowhere").await.is_empty());
}

pub async fn all_that_is_asked_for_must_hold<P: Place>() {
    let place: P = open().await;
    let no = || Ending::Failure(Failure::builtin("ValueError", "no"));
    let sent = |name: &str, task: &str| NewMessage { task: task.into(), ..draft(name) }.build();
    run(place.stores(), sent("m1", "mail.send"), no()).await;
    run(place.stores(), sent("m2", "mail.send"), five()).await;
    run(place.stores(), sent("m3", "mail.fetch"), no()).await;
    run(place.stores(), sent("m4", "math.add"), no()).await;
    push(place.stores(), vec![sent("m5", "mail.send")]).await;

    let filter = |name: &str, state| Filter { name: Some(name.into()), state: Some(state), ..any(1) };

    assert_eq!(all(place.stores(), filter("mail.send", State::Failure)).await, ["m1"]);
    assert_eq!(all(place.stores(), filter("mail.*", State::Failure)).await, ["m3", "m1"]);
    assert_eq!(all(place.stores(), filter("mail.*", State::Success)).await, ["m2"]);
    assert_eq!(all(place.stores(), filter("mail.send", State::Queued)).await, ["m5"]);
    let with_text = Filter { q: Some("m3".into()), ..filter("mail.*", State::Failure) };
    assert_eq!(all(place.stores(), with_text).await, ["m3"]);
}

pub async fn a_cursor_that_is_none_is_refused<P: Place>() {
    let place: P = open().await;
    run_many(place.stores(), 0..2).await;

    for cursor in ["", "nonsense", "-", "99999999999999999999999999", "s", "1.2.3", "세", "\0"] {
        let filter = Filter { cursor: Some(cursor.into()), ..any(10) };
        let refused = place.stores().history.search(&filter).await;
        assert!(matches!(refused, Err(Error::BadCursor { .. })), "`{cursor}`: {refused:?}");
    }
}

pub async fn a_listed_run_is_whole_but_for_its_log_and_children<P: Place>() {
    let place: P = open().await;
    push(place.stores(), vec![message("m1")]).await;
    let delivery = claim_one(place.stores()).await;
    let log = vec![LogLine { at: Utc::now(), level: "info".into(), text: "long".into() }];
    let attempt = Attempt { log, code: Some("c0de".into()), children: vec![id("child")], ..Attempt::default() };
    place.stores().queue.settle(Settlement { attempt, ..settlement(&delivery, five()) }.into()).await.unwrap();

    let run = place.stores().history.search(&any(1)).await.unwrap().runs.remove(0);

    assert!(run.log.is_empty() && run.children.is_empty(), "{:?} {:?}", run.log, run.children);
    assert_eq!((run.state, run.result.unwrap().get(), run.args.unwrap().get()), (State::Success, "5", "[2,3]"));
    assert_eq!(run.code.as_deref(), Some("c0de"));
}

pub async fn a_running_task_is_listed_as_started<P: Place>() {
    let place: P = open().await;
    push(place.stores(), vec![message("m1")]).await;
    let delivery = claim_one(place.stores()).await;

    let listed = place.stores().history.search(&any(1)).await.unwrap().runs.remove(0);

    assert_eq!((listed.state, listed.worker.as_deref()), (State::Started, Some("umbel@localhost")));
    let started = Filter { state: Some(State::Started), ..any(1) };
    assert_eq!(all(place.stores(), started.clone()).await, ids(std::slice::from_ref(&delivery)));
    settle(place.stores(), &delivery, five()).await;
    assert!(all(place.stores(), started).await.is_empty());
}
