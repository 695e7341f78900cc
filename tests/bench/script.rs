//! What a call of a task costs in the script engine alone: the floor under every other figure.

use std::hint::black_box;
use std::time::Instant;

use crate::median;

const CALLS: usize = 200_000;
const ROUNDS: usize = 5;

/// A Rust loop that does nothing but call the compiled script.
pub fn measure() {
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
