//! What the process says of itself, on standard error: lines for a person at a terminal, else JSON for a collector.
//!
//! A log line is a sentence that stands alone, with the same facts as fields; a person reads the sentence, a
//! collector gets both. `RUST_LOG` says how much is said.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::IsTerminal;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, error};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// A person reads along.
pub fn on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Starts the log of this process; `usual` is what is said where `RUST_LOG` says nothing, in the same words.
pub fn start(usual: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails where an embedding program has a log already, and then that one is right.
    let _ =
        if on_terminal() { log.event_format(Sentence).try_init() } else { log.json().flatten_event(true).try_init() };
    // As it comes it would be many lines, of which no collector makes sense.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or("somewhere".to_owned(), ToString::to_string);
        let why = panic.payload_as_str().unwrap_or("it says nothing");
        let backtrace = Backtrace::capture();
        match backtrace.status() {
            BacktraceStatus::Captured => error!("native code panicked at {place}: {why}\n{backtrace}"),
            _ => error!("native code panicked at {place}: {why}; with RUST_BACKTRACE=1 it says more"),
        }
    }));
}

/// `[2026-11-22 19:48:01.250] INFO  the sentence`.
struct Sentence;

impl<S, N> FormatEvent<S, N> for Sentence
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut message = Message(String::new());
        event.record(&mut message);
        let now = chrono::Local::now().format("%Y-%m-%d %H:%M:%S%.3f");
        writeln!(out, "[{now}] {:<5} {}", event.metadata().level().as_str(), message.0)
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_person_reads_the_sentence_without_its_fields() {
        let page = Page::default();
        let paper = page.clone();
        let log = tracing_subscriber::fmt().with_writer(move || paper.clone()).event_format(Sentence).finish();

        tracing::subscriber::with_default(log, || tracing::info!(task.id = "7", "task {} received", 7));

        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        assert!(text.starts_with('[') && text.ends_with("] INFO  task 7 received\n"), "{text}");
    }
}
