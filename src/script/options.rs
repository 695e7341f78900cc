//! The options that a script declares by `task(name, #{…})`.

use std::time::Duration;

use rhai::{Map, Position};

use super::{Fields, lint};
use crate::task::Options;

const KNOWN: [&str; 15] = [
    "queue",
    "priority",
    "time_limit",
    "soft_time_limit",
    "ignore_result",
    "track_started",
    "max_retries",
    "autoretry",
    "retry_backoff",
    "retry_backoff_max",
    "retry_jitter",
    "default_retry_delay",
    "acks_late",
    "expires",
    "run",
];

/// Options that are promised and refused until they do something.
const LATER: [&str; 3] = ["rate_limit", "unique", "concurrency"];

/// One `task(name, options)` at module level.
#[derive(Debug, Clone)]
pub struct Declaration {
    /// The name given: a function of the file, or with `run` the name of the task.
    pub name: String,
    /// 1-based.
    pub line: u32,
    /// 1-based.
    pub column: u32,
    options: Result<(Options, Option<String>), String>,
    /// Why some of them have no effect beside the others, a sentence each.
    pub(super) useless: Vec<String>,
}

impl Declaration {
    /// Reads `options` where the script has made them: they may be nested so deeply that nobody else can drop them.
    pub(super) fn new(name: &str, options: Map, at: Position) -> Self {
        let number = |number: Option<usize>| u32::try_from(number.unwrap_or(1)).unwrap_or(u32::MAX);
        let fields = Fields::new(options);
        Self {
            name: name.to_owned(),
            line: number(at.line()),
            column: number(at.position()),
            options: read(&fields).map_err(|why| format!("options of `{name}`: {why}")),
            useless: lint::without_effect(name, &fields),
        }
    }

    /// The options, and the function named by `run`.
    ///
    /// # Errors
    /// Names the option that is unknown, not built yet or of a wrong form.
    pub(super) fn options(&self) -> Result<(Options, Option<String>), String> {
        self.options.clone()
    }
}

fn read(fields: &Fields) -> Result<(Options, Option<String>), String> {
    if let Some(name) = fields.unknown(&KNOWN).find(|name| LATER.contains(name)) {
        return Err(format!("`{name}` is not built yet; leave it out"));
    }
    fields.only(&KNOWN)?;
    let default = Options::default();
    let options = Options {
        queue: fields.queue("queue")?.unwrap_or(default.queue),
        priority: fields.priority("priority")?.unwrap_or(default.priority),
        time_limit: limit(fields, "time_limit")?,
        soft_time_limit: limit(fields, "soft_time_limit")?,
        ignore_result: fields.truth("ignore_result")?.unwrap_or(default.ignore_result),
        track_started: fields.truth("track_started")?.unwrap_or(default.track_started),
        max_retries: fields.retries("max_retries")?.unwrap_or(default.max_retries),
        autoretry: fields.truth("autoretry")?.unwrap_or(default.autoretry),
        retry_backoff: backoff(fields)?,
        retry_backoff_max: fields.duration("retry_backoff_max")?.unwrap_or(default.retry_backoff_max),
        retry_jitter: fields.truth("retry_jitter")?.unwrap_or(default.retry_jitter),
        default_retry_delay: fields.duration("default_retry_delay")?.unwrap_or(default.default_retry_delay),
        acks_late: fields.truth("acks_late")?.unwrap_or(default.acks_late),
        expires: fields.duration("expires")?,
        caps: default.caps,
    };
    Ok((options, fields.text("run")?))
}

fn limit(fields: &Fields, name: &str) -> Result<Option<Duration>, String> {
    match fields.duration(name)? {
        Some(Duration::ZERO) => Err(format!("`{name}` must be more than nothing")),
        limit => Ok(limit),
    }
}

/// Celery takes true for a factor of one second, or the factor.
fn backoff(fields: &Fields) -> Result<Option<Duration>, String> {
    match fields.value("retry_backoff").and_then(|value| value.as_bool().ok()) {
        Some(wanted) => Ok(wanted.then_some(Duration::from_secs(1))),
        None => fields.duration("retry_backoff"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::script::Limits;
    use crate::task::{Priority, QueueName};

    fn options(script: &str) -> Result<(Options, Option<String>), String> {
        let options = rhai::Engine::new().eval(script).unwrap();
        Declaration::new("fetch", options, Position::NONE).options()
    }

    #[test]
    fn every_option_is_read() {
        let (options, run) = options(
            r#"#{ queue: "io", priority: 3, time_limit: "30s", soft_time_limit: 20, ignore_result: true, track_started: true, max_retries: 5,
                  autoretry: true, retry_backoff: 2, retry_backoff_max: "1h", retry_jitter: false, default_retry_delay: 1.5,
                  acks_late: false, expires: "1d", run: "get" }"#,
        )
        .unwrap();

        let expected = Options {
            queue: QueueName::parse("io").unwrap(),
            priority: Priority(3),
            time_limit: Some(Duration::from_secs(30)),
            soft_time_limit: Some(Duration::from_secs(20)),
            ignore_result: true,
            track_started: true,
            max_retries: Some(5),
            autoretry: true,
            retry_backoff: Some(Duration::from_secs(2)),
            retry_backoff_max: Duration::from_secs(3_600),
            retry_jitter: false,
            default_retry_delay: Duration::from_millis(1_500),
            acks_late: false,
            expires: Some(Duration::from_secs(86_400)),
            ..Options::default()
        };
        assert_eq!((options, run.as_deref()), (expected, Some("get")));
    }

    #[test]
    fn nothing_given_is_the_default() {
        assert_eq!(options("#{}").unwrap(), (Options::default(), None));
    }

    #[test]
    fn readme_has_every_option_with_its_default() {
        let readme = include_str!("../../README.md");
        let rows = readme.lines().skip_while(|line| !line.starts_with("| option")).skip(2);
        let rows = rows.take_while(|line| line.starts_with('|')).map(|row| {
            let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            (cells[1], cells[2])
        });
        let shown: BTreeMap<&str, &str> = rows.collect();

        assert_eq!(shown.keys().copied().collect::<BTreeSet<_>>(), BTreeSet::from(KNOWN));
        let mut nothing = BTreeSet::new();
        for (name, default) in shown {
            if ["off", "never", ""].contains(&default) {
                nothing.insert(name);
                continue;
            }
            // It is that of the settings.
            let time_limit = (name == "time_limit").then_some(Limits::default().time_limit);
            let (given, _) = options(&format!("#{{ {name}: {default} }}")).unwrap();
            assert_eq!(given, Options { time_limit, ..Options::default() }, "{name}");
        }
        let Options { soft_time_limit: None, retry_backoff: None, expires: None, .. } = Options::default() else {
            panic!("an option is not off without being given")
        };
        assert_eq!(nothing, BTreeSet::from(["soft_time_limit", "retry_backoff", "expires", "run"]));
    }

    #[test]
    fn words_for_on_and_without_end_are_read() {
        let (options, _) = options("#{ retry_backoff: true, max_retries: () }").unwrap();

        assert_eq!((options.retry_backoff, options.max_retries), (Some(Duration::from_secs(1)), None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (script, message) in [
            (r#"#{ que: "io" }"#, "there is no option `que`; did you mean `queue`?"),
            ("#{ zzz: 1 }", "there is no option `zzz`; there are queue, "),
            (r#"#{ rate_limit: "100/m" }"#, "`rate_limit` is not built yet; leave it out"),
            ("#{ priority: 10 }", "`priority` must be an integer from 0 to 9, not `10`"),
            ("#{ priority: 1.0 }", "`priority` must be an integer from 0 to 9, not `1.0`"),
            (r#"#{ queue: "" }"#, "`queue` is empty"),
            ("#{ queue: 5 }", "`queue` must be a string, not `5`"),
            (
                r#"#{ time_limit: "soon" }"#,
                "`time_limit` must be a number of seconds or a duration like \"30s\", not \"soon\"",
            ),
            ("#{ time_limit: -1 }", "`time_limit` must be a number of seconds"),
            ("#{ time_limit: 0 }", "`time_limit` must be more than nothing"),
            ("#{ soft_time_limit: 0 }", "`soft_time_limit` must be more than nothing"),
            ("#{ max_retries: -1 }", "`max_retries` must be a number of retries, or () for no limit, not `-1`"),
            ("#{ autoretry: 1 }", "`autoretry` must be true or false, not `1`"),
            ("#{ expires: () }", "`expires` must be a number of seconds or a duration like \"30s\", not ()"),
        ] {
            let shown = options(script).unwrap_err();
            let expected = format!("options of `fetch`: {message}");
            assert!(shown.starts_with(&expected), "{script}: {shown}");
        }
    }
}
