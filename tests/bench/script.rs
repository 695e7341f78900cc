//! What a call of a task costs in the script engine alone, the floor under every other figure; and how long after its
//! time limit, or after being revoked, a script still runs.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use umbel::script::{Call, Finished, Host, Level, Limits, Pool, Roots, Script, StopReason, Ticket};
use umbel::task::Outcome;

use crate::median;

const CALLS: usize = 200_000;
const ROUNDS: usize = 5;

/// Long enough to make the values of each of `LOOPS`.
const LIMIT: Duration = Duration::from_millis(500);

/// What a script does for ever, and what it makes for that.
const LOOPS: [(&str, &str, &str); 6] = [
    ("small operations", "let x = 0;", "x += 1;"),
    ("copies of 1,000,000 items", "let a = []; a.pad(1000000, 1);", "let b = a;"),
    ("copies of 3,000,000 items", "let a = []; a.pad(3000000, 1);", "let b = a;"),
    ("parts of 32 MiB", "let t = \"x\"; for i in 0..25 { t += t; }", "t.sub_string(1);"),
    ("words of 32 MiB", "let t = \" \"; for i in 0..25 { t += t; }", "text::words(t);"),
    ("digests of 32 MiB", "let t = \"x\"; for i in 0..25 { t += t; }", "hash::sha256(t);"),
];

pub fn measure() {
    measure_calls();
    measure_steps();
    for (name, prepare, work) in LOOPS {
        measure_overshoot(name, &format!("fn f() {{ {prepare} loop {{ {work} }} }}"));
    }
}

/// What the limits cost a script of small operations.
fn measure_steps() {
    let source = "fn f() { let s = 0; for i in 0..1000000 { s += i * 2; } s }";
    let rounds = (0..ROUNDS).map(|_| {
        let ticket = start(source, Limits::default()).0;
        let finished = ticket.finished.blocking_recv().unwrap();
        assert!(matches!(finished.outcome, Some(Outcome::Returned(_))));
        finished.took.as_secs_f64() * 1e3
    });
    println!("a script that adds 1,000,000 numbers: {:.0} ms", median(rounds.collect()));
}

fn measure_overshoot(name: &str, source: &str) {
    let over = |_| {
        let limits = Limits { time_limit: LIMIT, ..Limits::default() };
        let finished: Finished = start(source, limits).0.finished.blocking_recv().unwrap();
        assert!(matches!(finished.outcome, Some(Outcome::OverLimit(_))), "{name}");
        finished.took.saturating_sub(LIMIT).as_secs_f64() * 1e3
    };
    let revoked = |_| {
        let (ticket, begun) = start(source, Limits::default());
        begun.recv().unwrap();
        std::thread::sleep(LIMIT);
        let began = Instant::now();
        ticket.stop.stop(StopReason::Revoked);
        ticket.finished.blocking_recv().unwrap();
        began.elapsed().as_secs_f64() * 1e3
    };
    let over = median((0..ROUNDS).map(over).collect());
    let revoked = median((0..ROUNDS).map(revoked).collect());
    println!("a loop of {name}: ends {over:.1} ms after its limit of {LIMIT:?}, {revoked:.1} ms after being revoked");
}

/// Tells when the script begins.
struct Witness(mpsc::Sender<()>);

impl Host for Witness {
    fn started(&self) {
        // Nobody may be listening.
        let _ = self.0.send(());
    }
    fn place(&self) -> &'static str {
        "a bench"
    }
    fn log(&self, _level: Level, _text: &str) {}
}

fn start(source: &str, limits: Limits) -> (Ticket, mpsc::Receiver<()>) {
    let mut engine = umbel::script::engine();
    umbel::module::register(&mut engine);
    let engine = Arc::new(engine);
    let script = Script::load(&engine, &Roots::default(), "tasks/bench.rhai", source).unwrap();
    let (begins, begun) = mpsc::channel();
    let call = Call {
        script: Arc::new(script),
        function: "f".to_owned(),
        arguments: Box::new(|| Ok(Vec::new())),
        this: None,
        host: Arc::new(Witness(begins)),
        limits,
    };
    (Pool::new(engine, "bench", 1, limits.memory).start(call), begun)
}

/// A Rust loop that does nothing but call the compiled script.
fn measure_calls() {
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tasks/math.rhai")).unwrap();
    let engine = umbel::script::engine();
    let script = engine.compile(source).unwrap();
    let rounds = (0..ROUNDS).map(|_| {
        let began = Instant::now();
        for _ in 0..CALLS {
            let options = rhai::CallFnOptions::new().eval_ast(false);
            let sum: i64 =
                engine.call_fn_with_options(options, &mut rhai::Scope::new(), &script, "add", (10_i64, 3_i64)).unwrap();
            assert_eq!(black_box(sum), 13);
        }
        CALLS as f64 / began.elapsed().as_secs_f64()
    });
    println!("a loop that only calls `math.add`: {:.0} calls/s", median(rounds.collect()));
}
