//! Watching a task: every change of what is kept of it wakes its watchers.
//!
//! Ends and retries are called out on the channel of Celery's result in any case. The rest (claimed, progress, waiting
//! again) is called out only for tasks that are in the zset of the watched ones, so that it costs nothing where nobody
//! watches; a watcher hears of it as soon as the script that did it has run.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::store::Result;
use crate::task::TaskId;

use super::Redis;
use super::connection::Connection;
use super::subscriber::Listening;

/// How long a task counts as watched without being said again.
const WATCHED_FOR: Duration = Duration::from_secs(60);

impl Redis {
    /// As `Results::changes`. A change that happens while the connection is lost is told when it is back. Each watcher
    /// is one task of the runtime, so that whoever lets others watch bounds how many do.
    pub(super) async fn watch(&self, id: &TaskId) -> Result<watch::Receiver<u64>> {
        // Listen before telling that somebody does: what is called out between the two would else be lost.
        let listening =
            self.subscriber.listen([self.connection.keys().meta(id), self.connection.keys().changed(id)]).await?;
        say_watched(&self.connection, id).await?;
        let (changes, watcher) = watch::channel(0);
        tokio::spawn(pass_on(self.connection.clone(), id.clone(), listening, changes));
        Ok(watcher)
    }
}

// Until nobody watches. The task stays among the watched ones for a while: another process may watch it too.
async fn pass_on(connection: Connection, id: TaskId, mut listening: Listening, changes: watch::Sender<u64>) {
    let mut again = interval(WATCHED_FOR / 3);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    again.reset();
    loop {
        tokio::select! {
            () = changes.closed() => return,
            () = listening.heard() => changes.send_modify(|count| *count += 1),
            // Where this fails it is said again in a while, and ends are heard in any case.
            _ = again.tick() => drop(say_watched(&connection, &id).await),
        }
    }
}

async fn say_watched(connection: &Connection, id: &TaskId) -> Result<()> {
    let mut call = connection.scripts().watch.prepare_invoke();
    call.arg(id.as_str()).arg(WATCHED_FOR.as_millis() as u64);
    connection.run(&call).await
}
