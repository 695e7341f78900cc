//! What Celery's programs see of a worker: remote control in Celery's dialect.
//!
//! A client, `celery inspect` or a starting Python worker calls a command out to everyone who works; each worker that
//! is meant answers for itself. Here is what the commands mean; how they travel is the store's. A command changes
//! nothing but revocations, and those are a state of the store: several workers that hear the same one do the same
//! thing, and a worker that hears none of it still obeys.
//!
//! What Celery knows and we do not do is answered as Celery answers a command it does not know, so that nothing seems
//! to have happened.

mod addressees;
mod answer;
mod asked;
mod panel;
mod python;
mod usage;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::client::Client;
use crate::store::{Command, Control};
use crate::worker::View;

use panel::Panel;

/// How many commands may wait for the one that is being answered. Their senders wait for a second, as a rule.
const WAITING: usize = 64;

/// Does `work`, and answers remote control for the worker in `view` as long as that takes: also while it stops.
/// Without a store that processes share there is nobody to answer, and it is only the work.
pub async fn beside(client: &Client, view: View, work: impl Future<Output = ()>) {
    let answering = client.stores().control.clone().map(|control| {
        let panel = Panel::new(client.clone(), view, control.clone());
        AbortOnDropHandle::new(tokio::spawn(answer(panel, control)))
    });
    work.await;
    drop(answering);
}

async fn answer(mut panel: Panel, control: Arc<dyn Control>) {
    let (heard, mut commands) = mpsc::channel::<Command>(WAITING);
    let answering = async {
        while let Some(command) = commands.recv().await {
            panel.take(command).await;
        }
    };
    tokio::join!(control.listen(heard), answering);
}
