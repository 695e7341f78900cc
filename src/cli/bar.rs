//! The bar that shows how far a task is while somebody waits for it.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::paper::{plain, short};
use crate::task::{Progress, Run, State};

/// How finely the bar is divided.
const STEPS: u64 = 1_000;

/// The longest note that is shown, in letters.
const NOTE: usize = 60;

/// A bar on standard error, or nothing where that is no terminal. Cheap to clone.
#[derive(Clone)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// For a run of `task`. With `json` a program reads along, and nothing is shown.
    pub fn new(task: &str, json: bool) -> Self {
        let target = if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(STEPS), target).with_prefix(plain(task));
        let bar = bar.with_style(style("{spinner} {prefix} {msg} {elapsed}")).with_message("is sent");
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self(bar)
    }

    pub fn is_hidden(&self) -> bool {
        self.0.is_hidden()
    }

    pub fn show(&self, run: &Run) {
        let (part, text) = shown(run.state, run.progress.as_ref());
        match part {
            Some(part) => {
                self.0.set_style(style("{spinner} {prefix} [{bar:30}] {msg} {elapsed}").progress_chars("=> "));
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 1")]
                self.0.set_position((part * STEPS as f64) as u64);
            }
            None => self.0.set_style(style("{spinner} {prefix} {msg} {elapsed}")),
        }
        self.0.set_message(text);
    }

    /// Leaves no trace of it.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are sound")
}

/// How much of it is done, from 0 to 1, and what stands beside the bar; `None` when the task does not say.
fn shown(state: State, progress: Option<&Progress>) -> (Option<f64>, String) {
    let Some(progress) = progress else {
        let text = match state {
            State::Scheduled => "waits for its time",
            State::Queued => "waits for a worker",
            State::Retry => "waits to be tried again",
            _ => "runs",
        };
        return (None, text.to_owned());
    };
    let part = progress.done / progress.total;
    let part = part.is_finite().then(|| part.clamp(0.0, 1.0));
    let note = progress.note.as_ref().map_or(String::new(), |note| format!(" {}", short(&plain(note), NOTE)));
    (part, format!("{}/{}{note}", progress.done, progress.total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(done: f64, total: f64, note: Option<&str>) -> Progress {
        Progress { done, total, note: note.map(str::to_owned) }
    }

    #[test]
    fn progress_is_a_part_and_a_text() {
        let shown = |progress: Progress| shown(State::Started, Some(&progress));

        assert_eq!(shown(progress(3.0, 12.0, Some("reading"))), (Some(0.25), "3/12 reading".to_owned()));
        assert_eq!(shown(progress(2.5, 2.0, None)), (Some(1.0), "2.5/2".to_owned()));
        assert_eq!(shown(progress(-1.0, 2.0, Some("a\u{1b}[31mb"))), (Some(0.0), "-1/2 a [31mb".to_owned()));
        assert_eq!(shown(progress(0.0, 0.0, None)), (None, "0/0".to_owned()));
    }

    #[test]
    fn without_progress_the_state_is_told() {
        assert_eq!(shown(State::Queued, None), (None, "waits for a worker".to_owned()));
        assert_eq!(shown(State::Started, None), (None, "runs".to_owned()));
    }

    #[test]
    fn every_template_is_sound() {
        let bar = Bar::new("math.add", true);
        let mut run: Run = serde_json::from_str(
            r#"{"id":"x","task":"math.add","state":"STARTED","queue":"celery","priority":0,"retries":0,
                "queued_at":null,"started_at":null,"finished_at":null,"worker":null,"code":null}"#,
        )
        .unwrap();

        bar.show(&run);
        run.progress = Some(progress(1.0, 2.0, None));
        bar.show(&run);

        assert_eq!((bar.is_hidden(), bar.0.position()), (true, STEPS / 2));
        bar.clear();
    }
}
