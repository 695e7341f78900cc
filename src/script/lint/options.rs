//! Options of a task that can have no effect beside its other ones.

use crate::script::Fields;

/// Says of each such option why. Options of a wrong form are not looked at: loading refuses them.
pub(in crate::script) fn without_effect(task: &str, fields: &Fields) -> Vec<String> {
    let is_true = |name| fields.truth(name).ok().flatten() == Some(true);
    let is_given = |name| fields.value(name).is_some();
    let has_backoff = is_given("retry_backoff") && fields.truth("retry_backoff").ok().flatten() != Some(false);
    let mut found = Vec::new();
    let mut say = |option: &str, why: &str| {
        found.push(format!("options of `{task}`: `{option}` has no effect {why}"));
    };
    if has_backoff && !is_true("autoretry") {
        say("retry_backoff", "without `autoretry: true`; `task::retry` waits for `default_retry_delay`");
    }
    for option in ["retry_backoff_max", "retry_jitter"] {
        if is_given(option) && !has_backoff {
            say(option, "without `retry_backoff`");
        }
    }
    if is_true("autoretry") && matches!(fields.retries("max_retries"), Ok(Some(Some(0)))) {
        say("autoretry", "with `max_retries: 0`");
    }
    let of = |name| fields.duration(name).ok().flatten();
    if let (Some(soft), Some(hard)) = (of("soft_time_limit"), of("time_limit"))
        && soft >= hard
    {
        say("soft_time_limit", "where it is not shorter than `time_limit`");
    }
    found
}
