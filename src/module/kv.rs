//! `kv::`: small values that tasks share.

use std::time::Duration;

use rhai::{Dynamic, Module};

use super::{add, wrong};
use crate::script::{Native, duration_of, from_json, host, outside, to_json};
use crate::task;

/// The longest name of a value or a lock, in bytes.
const MAX_KEY: usize = 512;

/// So much of a name that is refused is shown, in bytes.
const SHOWN_KEY: usize = 40;

pub(super) fn module() -> Module {
    let mut module = Module::new();
    add(
        &mut module,
        "get(key: string) -> any",
        "The value, or `()` when there is none: `kv::get(\"visits\")`.",
        |key: &str| get(key, Dynamic::UNIT),
    );
    add(
        &mut module,
        "get(key: string, default: any) -> any",
        "The value, or `default` when there is none: `kv::get(\"visits\", 0)`.",
        get,
    );
    add(
        &mut module,
        "set(key: string, value: any)",
        "Keeps a value for good: `kv::set(\"visits\", 1)`.",
        |key: &str, value: Dynamic| set(key, &value, None),
    );
    add(
        &mut module,
        "set(key: string, value: any, ttl: seconds)",
        "Keeps a value for a time: `kv::set(\"code\", 1234, 60)`.",
        |key: &str, value: Dynamic, ttl: Dynamic| set(key, &value, Some(lifetime(&ttl, "kv::set")?)),
    );
    add(
        &mut module,
        "incr(key: string) -> int",
        "Adds 1 to an integer and returns the sum: `kv::incr(\"visits\")`.",
        |key: &str| incr(key, 1),
    );
    add(
        &mut module,
        "incr(key: string, by: int) -> int",
        "Adds `by` to an integer and returns the sum: `kv::incr(\"stock\", -2)`.",
        incr,
    );
    add(
        &mut module,
        "delete(key: string) -> bool",
        "Deletes; false when there was none: `kv::delete(\"visits\")`.",
        |key: &str| -> Native<bool> {
            let (host, key) = (host("kv::delete")?, name(key)?);
            Ok(outside(|| host.kv_delete(key, None))?)
        },
    );
    add(
        &mut module,
        "lock(key: string, ttl: seconds) -> string | ()",
        "Takes a lock for a time and returns its token, or `()` when another has it: `kv::lock(\"report\", 60)`.",
        lock,
    );
    add(
        &mut module,
        "unlock(key: string, token: string) -> bool",
        "Gives a lock back; false when it was not yours any more: `kv::unlock(\"report\", token)`.",
        |key: &str, token: &str| -> Native<bool> {
            let (host, key) = (host("kv::unlock")?, lock_key(key)?);
            Ok(outside(|| host.kv_delete(&key, Some(task::to_json(&token))))?)
        },
    );
    module
}

fn get(key: &str, default: Dynamic) -> Native<Dynamic> {
    let (host, key) = (host("kv::get")?, name(key)?);
    match outside(|| host.kv_get(key))? {
        Some(json) => Ok(from_json(json.get())?),
        None => Ok(default),
    }
}

fn set(key: &str, value: &Dynamic, ttl: Option<Duration>) -> Native<()> {
    let (host, key, value) = (host("kv::set")?, name(key)?, to_json(value)?);
    outside(|| host.kv_set(key, value.clone(), ttl, false))?;
    Ok(())
}

fn incr(key: &str, by: i64) -> Native<i64> {
    let (host, key) = (host("kv::incr")?, name(key)?);
    Ok(outside(|| host.kv_incr(key, by))?)
}

fn lock(key: &str, ttl: Dynamic) -> Native<Dynamic> {
    let host = host("kv::lock")?;
    let token = uuid::Uuid::new_v4().to_string();
    let (key, ttl) = (lock_key(key)?, lifetime(&ttl, "kv::lock")?);
    let taken = outside(|| host.kv_set(&key, task::to_json(&token), Some(ttl), true))?;
    Ok(if taken { token.into() } else { Dynamic::UNIT })
}

/// The name of a value or a lock, as it was given.
fn name(key: &str) -> Native<&str> {
    if key.is_empty() || key.len() > MAX_KEY || key.chars().any(char::is_control) {
        let shown = &key[..key.floor_char_boundary(SHOWN_KEY)];
        let reason = format!("`{shown}` is no name for `kv`: it has 1 to {MAX_KEY} bytes and no control characters");
        return Err(wrong("ValueError", reason));
    }
    Ok(key)
}

/// Apart from values, none of which has a control character in its name.
fn lock_key(key: &str) -> Native<String> {
    Ok(format!("\u{1}lock:{}", name(key)?))
}

fn lifetime(ttl: &Dynamic, what: &str) -> Native<Duration> {
    let ttl = duration_of(ttl).filter(|ttl| !ttl.is_zero());
    ttl.ok_or_else(|| wrong("ValueError", format!("`{what}`: the time must be more than 0 seconds")))
}

#[cfg(test)]
mod tests {
    use crate::module::tests::{evaluate, fails};

    #[test]
    fn a_value_is_kept_and_deleted() {
        let script = r#"kv::set("a", #{ b: [1] }); [kv::get("a"), kv::get("c"), kv::get("c", 7), kv::delete("a"), kv::delete("a")]"#;

        assert_eq!(evaluate(script), r#"[{"b":[1]},null,7,true,false]"#);
    }

    #[test]
    fn a_counter_counts() {
        assert_eq!(evaluate(r#"kv::incr("n"); kv::incr("n", 5); kv::incr("n", -2)"#), "4");
    }

    #[test]
    fn a_lock_has_one_owner_and_shares_no_name_with_values() {
        let script = r#"
            kv::set("x", 1);
            let first = kv::lock("x", 60);
            let second = kv::lock("x", "1m");
            let wrong = kv::unlock("x", "someone else");
            let right = kv::unlock("x", first);
            let again = kv::lock("x", 1.5) != ();
            kv::delete("lock:x");
            [second, wrong, right, again, kv::lock("x", 1), kv::get("x")]"#;

        assert_eq!(evaluate(script), "[null,false,true,true,null,1]");
    }

    #[test]
    fn a_time_that_is_none_is_refused() {
        for script in [r#"kv::set("a", 1, 0)"#, r#"kv::set("a", 1, "soon")"#, r#"kv::lock("a", -1)"#] {
            assert_eq!(fails(script).exc_type, "ValueError", "{script}");
        }
    }

    #[test]
    fn names_are_bounded() {
        assert_eq!(evaluate(r#"let key = "x"; key.pad(512, "x"); kv::set(key, 1); kv::get(key)"#), "1");
        for key in [r#""""#, r#""a\nb""#, r#""\x01lock:x""#, r#"{ let key = "x"; key.pad(513, "x"); key }"#] {
            for call in ["kv::get(KEY)", "kv::set(KEY, 1)", "kv::incr(KEY)", "kv::delete(KEY)", "kv::lock(KEY, 1)"] {
                assert_eq!(fails(&call.replace("KEY", key)).exc_type, "ValueError", "{call} of {key}");
            }
        }
    }

    #[test]
    fn what_json_cannot_carry_is_not_kept() {
        assert_eq!(fails(r#"kv::set("a", || 1)"#).exc_type, "TypeError");
    }
}
