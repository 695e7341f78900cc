//! `kv::`: small values that tasks share.

use std::time::Duration;

use rhai::{Dynamic, Module};

use super::{add, wrong};
use crate::script::{Native, duration_of, from_json, host, outside, to_json};
use crate::task;

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
            let host = host("kv::delete")?;
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
            let host = host("kv::unlock")?;
            Ok(outside(|| host.kv_delete(&lock_key(key), Some(task::to_json(&token))))?)
        },
    );
    module
}

fn get(key: &str, default: Dynamic) -> Native<Dynamic> {
    let host = host("kv::get")?;
    match outside(|| host.kv_get(key))? {
        Some(json) => Ok(from_json(json.get())?),
        None => Ok(default),
    }
}

fn set(key: &str, value: &Dynamic, ttl: Option<Duration>) -> Native<()> {
    let host = host("kv::set")?;
    let value = to_json(value)?;
    outside(|| host.kv_set(key, value.clone(), ttl, false))?;
    Ok(())
}

fn incr(key: &str, by: i64) -> Native<i64> {
    let host = host("kv::incr")?;
    Ok(outside(|| host.kv_incr(key, by))?)
}

fn lock(key: &str, ttl: Dynamic) -> Native<Dynamic> {
    let host = host("kv::lock")?;
    let token = uuid::Uuid::new_v4().to_string();
    let ttl = lifetime(&ttl, "kv::lock")?;
    let taken = outside(|| host.kv_set(&lock_key(key), task::to_json(&token), Some(ttl), true))?;
    Ok(if taken { token.into() } else { Dynamic::UNIT })
}

/// Apart from values, so that a lock and a value may have one name.
fn lock_key(key: &str) -> String {
    format!("lock:{key}")
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
            [second, wrong, right, kv::lock("x", 1.5) != (), kv::get("x")]"#;

        assert_eq!(evaluate(script), "[null,false,true,true,1]");
    }

    #[test]
    fn a_time_that_is_none_is_refused() {
        for script in [r#"kv::set("a", 1, 0)"#, r#"kv::set("a", 1, "soon")"#, r#"kv::lock("a", -1)"#] {
            assert_eq!(fails(script).exc_type, "ValueError", "{script}");
        }
    }

    #[test]
    fn what_json_cannot_carry_is_not_kept() {
        assert_eq!(fails(r#"kv::set("a", || 1)"#).exc_type, "TypeError");
    }
}
