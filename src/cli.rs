//! The commands. What a command does is in the rooms below and in `app`; here it is read, shown, and given its exit
//! code: 0 is well, 1 the task or the check failed, 2 wrong usage or settings, 3 no umbel or no store to work with.
//!
//! Values go to standard output, everything else to standard error, so that a command can stand in a pipe.

mod arguments;
mod backup;
mod check;
mod new;
mod send;
mod token;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::client::{Request, SubmitError};
use crate::config::{Flags, Settings};
use crate::script::Broken;
use crate::task::{Run, State, parse_duration};
use crate::{app, log, store};

/// Background tasks, schedules and chat from scripts.
#[derive(Parser)]
#[command(name = "umbel", version)]
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
    /// Runs a task here and now, and prints its value.
    Call(Task),
    /// Sends a task to the umbel that serves the folder, and prints its id.
    Send(Sending),
    /// Looks for mistakes in scripts, plugins, schedules and settings.
    Check,
    /// Copies the embedded store into a new file, also while umbel runs.
    Backup { file: PathBuf },
    /// Makes a token for those who use HTTP, and prints its table for `umbel.toml`.
    Token(token::Making),
    /// Makes a folder to begin with.
    New { folder: PathBuf },
}

#[derive(Args)]
struct Task {
    /// The name of the task, such as `math.add`.
    task: String,
    /// JSON where it parses, else text; `name=value` goes by name.
    #[arg(allow_negative_numbers = true)]
    arguments: Vec<String>,
}

#[derive(Args)]
struct Sending {
    #[command(flatten)]
    task: Task,
    /// Wait until it has ended, at most so long, and print its value instead.
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, value_parser = duration)]
    wait: Option<Option<Duration>>,
    /// Do not start it before this much from now.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    countdown: Option<Duration>,
    /// The queue, instead of the task's own.
    #[arg(long)]
    queue: Option<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|bad| bad.to_string())
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let line = Line::parse();
    log::start(match line.command {
        Command::Up { .. } => "info",
        // What came of the task is printed; its script's own lines follow from the run.
        Command::Call(_) => "warn,umbel::worker::journal=off",
        Command::Check => "off",
        Command::Send(_) | Command::Backup { .. } | Command::New { .. } | Command::Token(_) => "warn",
    });
    match run(line) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", told(&error));
            if let Some(excerpt) = error.downcast_ref::<Broken>().and_then(|broken| broken.excerpt.as_ref()) {
                eprintln!("{excerpt}");
            }
            code_of(&error)
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
    let settings = |listen| Settings::load(&dir, &Flags { store, listen });
    match command {
        Command::Up { listen } => {
            runtime()?.block_on(app::up(settings(listen)?, log::on_terminal()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Call(Task { task, arguments }) => {
            let (args, kwargs) = arguments::read(arguments)?;
            let request = Request { task, args: Some(args), kwargs: Some(kwargs), ..Request::default() };
            let run = runtime()?.block_on(app::call(settings(None)?, request))?;
            run.log.iter().for_each(|line| eprintln!("{}: {}", line.level, line.text));
            show(&run, json)
        }
        Command::Send(sending) => send::run(&settings(None)?, sending, json),
        Command::Check => check::run(&dir, settings(None), json),
        Command::Backup { file } => backup::run(&settings(None)?, &file, json),
        Command::Token(making) => token::run(making, json),
        Command::New { folder } => new::run(&folder),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the async runtime")
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

// A reader that has seen enough (`| head`) is no error.
fn say(text: &str) -> io::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn code_of(error: &anyhow::Error) -> ExitCode {
    const FAILED: u8 = 1;
    const WRONG: u8 = 2;
    const NOBODY: u8 = 3;
    let of_store = |error: &store::Error| match error {
        store::Error::Held(_) | store::Error::Away { .. } | store::Error::Full { .. } => NOBODY,
        store::Error::DuplicateId { .. } | store::Error::BadCursor { .. } => WRONG,
        store::Error::Other(_) => FAILED,
    };
    let code = if error.is::<Broken>() || error.is::<arguments::Twice>() || error.is::<new::NotEmpty>() {
        WRONG
    } else if let Some(error) = error.downcast_ref() {
        match error {
            SubmitError::Store(error) => of_store(error),
            _ => WRONG,
        }
    } else if let Some(error) = error.downcast_ref() {
        of_store(error)
    } else if let Some(error) = error.downcast_ref() {
        match error {
            send::Unsent::Nobody { .. } | send::Unsent::Lost { .. } => NOBODY,
            send::Unsent::Refused { status: 503, .. } => NOBODY,
            send::Unsent::Refused { status: 400..500, .. } => WRONG,
            send::Unsent::Refused { .. } | send::Unsent::Late { .. } => FAILED,
        }
    } else {
        FAILED
    };
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

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
        for line in ["umbel", "umbel what", "umbel send", "umbel send a.b --countdown soon", "umbel check extra"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        let source = crate::plugin::ArgumentError { parameter: None, message: "too many".into() };
        let error = anyhow::Error::from(SubmitError::BadArguments { name: "x".into(), source }).context("cannot send");

        assert_eq!(told(&error), "cannot send: arguments for `x` are not valid: too many");
    }

    #[test]
    fn a_code_tells_whose_fault_it_was() {
        let code = |error: anyhow::Error| format!("{:?}", code_of(&error));
        let is = |code: u8| format!("{:?}", ExitCode::from(code));
        let away = || store::Error::Away { reason: "gone".into() };
        let unknown = SubmitError::UnknownTask { name: "x".into(), nearest: None };

        assert_eq!(code(anyhow::anyhow!("disk full")), is(1));
        assert_eq!(code(anyhow::Error::from(unknown).context("cannot call")), is(2));
        assert_eq!(code(away().into()), is(3));
        assert_eq!(code(SubmitError::Store(away()).into()), is(3));
    }
}
