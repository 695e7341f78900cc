//! The commands. What a command does is in the rooms below and in `app`; here it is read, shown, and given its exit
//! code: 0 is well, 1 the task or the check failed, 2 wrong usage or settings, 3 no umbel or no store to work with.
//!
//! Values go to standard output, everything else to standard error, so that a command can stand in a pipe.

mod arguments;
mod backup;
mod bar;
mod check;
mod config;
mod diagnostic;
mod door;
mod exit;
mod inspect;
mod new;
mod operate;
mod paper;
mod project;
mod schedules;
mod send;
mod tasks;
mod test;
mod time;
mod token;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use tracing::warn;

use crate::app::{Plan, Role};
use crate::client::Request;
use crate::config::{Flags, Settings};
use crate::script::{Broken, Severity};
use crate::task::{QueueName, Run, State, parse_duration};
use crate::{app, log};
use paper::{has_colours, say};

/// Background tasks, schedules and chat from scripts.
#[derive(Parser)]
#[command(name = "umbel", version, after_help = exit::codes())]
struct Line {
    /// The project's folder.
    #[arg(long, global = true, default_value = ".", value_name = "FOLDER")]
    dir: PathBuf,
    /// Where tasks are kept: `sqlite:PATH` or `redis://HOST:PORT/DB`.
    #[arg(long, global = true, value_name = "URL")]
    store: Option<String>,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the folder: runs tasks and schedules, answers HTTP and WebSockets.
    Up {
        /// Where HTTP listens.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<String>,
    },
    /// Answers HTTP and WebSockets, and leaves the work to others over Redis.
    Serve {
        /// Where HTTP listens.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<String>,
    },
    /// Runs tasks from Redis.
    Worker {
        /// The only queues that it serves; else those of the tasks and of the setting `queues`.
        #[arg(short = 'Q', long, value_name = "NAME,NAME", value_delimiter = ',', value_parser = queue)]
        queues: Vec<QueueName>,
        /// Where it answers HTTP; without this it does not.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<String>,
    },
    /// Sends what is due by `schedules.toml` over Redis; any number of them send each of it once.
    Beat {
        /// Where it answers HTTP; without this it does not.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<String>,
    },
    /// Runs a task here and now, and prints its value.
    Call(Task),
    /// Runs the tests of the folder: functions in `*_test.rhai` files.
    Test(test::Testing),
    /// Sends a task to a running umbel, and prints its id.
    Send(send::Sending),
    /// Shows the latest runs, the newest first.
    Tasks(tasks::Listing),
    /// Shows workers and queues, or one run with its log and its error.
    Inspect(inspect::Inspecting),
    /// Takes care that tasks do not start.
    Revoke(operate::Revoking),
    /// Runs tasks that have ended once more, and prints their ids.
    Retry(operate::Retrying),
    /// Removes everything that waits in a queue.
    Purge(operate::Purging),
    /// Starts nothing more of a queue until it is resumed.
    Pause(operate::Pausing),
    /// Serves a queue again.
    Resume(operate::Pausing),
    /// Shows when the entries of `schedules.toml` run next.
    Schedules(schedules::Looking),
    /// Looks for mistakes in scripts, plugins, schedules and settings.
    Check(check::Checking),
    /// Copies the embedded store into a new file, also while umbel runs.
    Backup { file: PathBuf },
    /// Shows every setting, and where its value came from.
    Config {
        /// Where HTTP would listen.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<String>,
    },
    /// Makes a token for those who use HTTP, and prints its table for `umbel.toml`.
    Token(token::Making),
    /// Makes a folder to begin with.
    New { folder: PathBuf },
    /// Prints the script that completes commands in a shell.
    Completions { shell: clap_complete::Shell },
}

#[derive(Args)]
struct Task {
    /// The name of the task, such as `math.add`.
    task: String,
    /// JSON where it parses, else text; `name=value` goes by name.
    #[arg(allow_negative_numbers = true)]
    arguments: Vec<String>,
}

fn queue(text: &str) -> Result<QueueName, String> {
    QueueName::parse(text).map_err(|bad| bad.to_string())
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|bad| bad.to_string())
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let line = Line::parse();
    log::start(match line.command {
        Command::Up { .. } | Command::Serve { .. } | Command::Worker { .. } | Command::Beat { .. } => "info",
        // What came of the task is printed; its script's own lines follow from the run.
        Command::Call(_) => "warn,umbel::worker::journal=off",
        // They tell what is wrong themselves.
        Command::Check(_) | Command::Test(_) => "off",
        _ => "warn",
    });
    match run(line) {
        Ok(code) => code,
        Err(error) => {
            match error.downcast_ref::<Broken>() {
                Some(broken) => eprintln!("{}", diagnostic::show(Severity::Error, broken, has_colours(&io::stderr()))),
                None => eprintln!("error: {}", told(&error)),
            }
            exit::code_of(&error)
        }
    }
}

// With its causes, except those that are told by what they caused.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.as_str() {
        "" => cause,
        known if known.contains(&cause) => told,
        known => format!("{known}: {cause}"),
    })
}

fn run(line: Line) -> anyhow::Result<ExitCode> {
    let Line { dir, store, json, command } = line;
    let flags = |listen| Flags { store: store.clone(), listen };
    let settings = |listen| Settings::load(&dir, &flags(listen));
    match command {
        Command::Up { listen } => start(Role::Up, Vec::new(), listen.is_some(), settings(listen)?),
        Command::Serve { listen } => start(Role::Serve, Vec::new(), listen.is_some(), settings(listen)?),
        Command::Worker { queues, listen } => start(Role::Worker, queues, listen.is_some(), settings(listen)?),
        Command::Beat { listen } => start(Role::Beat, Vec::new(), listen.is_some(), settings(listen)?),
        Command::Call(Task { task, arguments }) => {
            let (args, kwargs) = arguments::read(arguments)?;
            let request = Request { task, args: Some(args), kwargs: Some(kwargs), ..Request::default() };
            let run = runtime()?.block_on(app::call(settings(None)?, request))?;
            run.log.iter().for_each(|line| eprintln!("{}: {}", line.level, line.text));
            show(&run, json)
        }
        Command::Test(testing) => test::run(testing, settings(None)?, json),
        Command::Send(sending) => send::run(sending, || settings(None), json),
        Command::Tasks(listing) => tasks::run(listing, || settings(None), json),
        Command::Inspect(inspecting) => inspect::run(inspecting, || settings(None), json),
        Command::Revoke(revoking) => operate::revoke(revoking, || settings(None), json),
        Command::Retry(retrying) => operate::retry(retrying, || settings(None), json),
        Command::Purge(purging) => operate::purge(purging, || settings(None), json),
        Command::Pause(pausing) => operate::pause(pausing, true, || settings(None), json),
        Command::Resume(pausing) => operate::pause(pausing, false, || settings(None), json),
        Command::Schedules(looking) => schedules::run(&looking, &dir, || settings(None), json),
        Command::Check(checking) => check::run(&checking, &dir, Settings::check(&dir, &flags(None)), json),
        Command::Backup { file } => backup::run(&settings(None)?, &file, json),
        Command::Config { listen } => config::run(&dir, &flags(listen), json),
        Command::Token(making) => token::run(making, json),
        Command::New { folder } => new::run(&folder),
        Command::Completions { shell } => {
            // It panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Line::command(), "umbel", &mut script);
            say(String::from_utf8(script)?.trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

// Runs until a signal ends it.
fn start(role: Role, queues: Vec<QueueName>, listens: bool, settings: Settings) -> anyhow::Result<ExitCode> {
    let plan = Plan { role, listens, queues, loud: log::on_terminal() };
    if let Some(why) = project::emptiness(&settings.folder) {
        warn!("{why}");
    }
    let folder = settings.folder.clone();
    runtime_of(role)?.block_on(async {
        tokio::select! {
            ended = app::run(plan, settings) => ended,
            never = project::tell_of_changes(&folder) => match never {},
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    build(&mut tokio::runtime::Builder::new_multi_thread())
}

// A worker's scripts have threads of their own. With a thread for each processor beside those, tasks would be handed from
// one to the other more often than they gain by it.
fn runtime_of(role: Role) -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if role == Role::Worker && std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        builder.worker_threads((processors / 2).max(1));
    }
    build(&mut builder)
}

fn build(builder: &mut tokio::runtime::Builder) -> anyhow::Result<tokio::runtime::Runtime> {
    builder.enable_all().build().context("cannot start the async runtime")
}

/// Prints what came of a task that has ended.
fn show(run: &Run, json: bool) -> anyhow::Result<ExitCode> {
    let succeeded = run.state == State::Success;
    if json {
        say(&serde_json::to_string(run)?)?;
    } else if succeeded {
        say(run.result.as_ref().map_or("null", |value| value.get()))?;
    } else if let Some(why) = &run.error {
        let traceback =
            why.traceback.as_deref().map_or(String::new(), |traceback| format!("\n{}", traceback.trim_end()));
        eprintln!("{} {}: {}: {}{traceback}", run.task, run.state.as_str(), why.exc_type, why.exc_message);
    } else {
        eprintln!("{} {}", run.task, run.state.as_str());
    }
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::SubmitError;

    #[test]
    fn the_command_line_is_sound() {
        Line::command().debug_assert();
    }

    #[test]
    fn what_people_type_is_understood() {
        let parse = |line: &str| Line::try_parse_from(line.split(' '));

        let Ok(Line { command: Command::Send(sending), .. }) = parse("umbel send math.add -10 y=-3 --wait=5s") else {
            panic!("`send` is not read")
        };
        assert_eq!(sending.task.arguments, ["-10", "y=-3"]);
        assert_eq!(sending.wait, Some(Some(Duration::from_secs(5))));
        let Ok(Line { command: Command::Send(sending), .. }) = parse("umbel send --wait math.add 10 3") else {
            panic!("`send` is not read")
        };
        assert_eq!((sending.task.arguments.len(), sending.wait), (2, Some(None)));
        for line in
            ["umbel up --dir x --listen 127.0.0.1:0", "umbel --dir x check --json", "umbel call a.b --store memory:"]
        {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in ["umbel", "umbel what", "umbel send", "umbel send a.b --countdown soon", "umbel new"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        let source = crate::plugin::ArgumentError { parameter: None, message: "too many".into() };
        let error = anyhow::Error::from(SubmitError::BadArguments { name: "x".into(), source }).context("cannot send");

        assert_eq!(told(&error), "cannot send: arguments for `x` are not valid: too many");
    }
}
