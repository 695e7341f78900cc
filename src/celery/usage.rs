//! What this process has used of its machine, as `getrusage` has it.

use serde_json::{Value, json};

/// Of the fields of `/proc/PID/stat` behind the name of the program: how often it waited for no page and for one,
/// and how long it ran in its own code and in the system's.
const MINFLT: usize = 7;
const MAJFLT: usize = 9;
const UTIME: usize = 11;
const STIME: usize = 12;

/// How Linux counts time there, whatever its own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

/// The fields of Celery's `rusage`; where the system does not tell, `N/A` as Celery has it.
pub fn of_this_process() -> Value {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).ok();
    let (Some(stat), Some(status)) = (read("stat"), read("status")) else { return json!("N/A") };
    of(&stat, &status).unwrap_or_else(|| json!("N/A"))
}

fn of(stat: &str, status: &str) -> Option<Value> {
    // The name stands in brackets and may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    let seconds = |place: usize| number(place).map(|ticks| ticks as f64 / TICKS_PER_SECOND);
    let said = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some(json!({
        "utime": seconds(UTIME)?,
        "stime": seconds(STIME)?,
        "maxrss": said("VmHWM")?,
        "ixrss": 0,
        "idrss": 0,
        "isrss": 0,
        "minflt": number(MINFLT)?,
        "majflt": number(MAJFLT)?,
        "nswap": 0,
        "inblock": 0,
        "oublock": 0,
        "msgsnd": 0,
        "msgrcv": 0,
        "nsignals": 0,
        "nvcsw": said("voluntary_ctxt_switches")?,
        "nivcsw": said("nonvoluntary_ctxt_switches")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_writes_is_read() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 1500 0 7 0 250 75 0 0 20 0 9 0 100 1 1 1";
        let status =
            "Name:\ta) b\nVmHWM:\t   57964 kB\nvoluntary_ctxt_switches:\t195\nnonvoluntary_ctxt_switches:\t378\n";

        let usage = of(stat, status).unwrap();

        assert_eq!((&usage["utime"], &usage["stime"]), (&json!(2.5), &json!(0.75)));
        assert_eq!((&usage["minflt"], &usage["majflt"], &usage["maxrss"]), (&json!(1500), &json!(7), &json!(57964)));
        assert_eq!((&usage["nvcsw"], &usage["nivcsw"]), (&json!(195), &json!(378)));
        assert_eq!(of("", status), None);
    }
}
