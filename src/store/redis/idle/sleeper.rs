//! A connection that waits for one list.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{RedisResult, Value};
use tokio::time::{Instant, timeout};

use super::super::transport::Road;

/// For how long Redis keeps a wait that nobody ends.
const WAIT: Duration = Duration::from_secs(60);
/// How much longer than Redis we wait for the end of a wait.
const MARGIN: Duration = Duration::from_secs(1);

/// A connection that only ever waits, and its number in Redis.
pub struct Sleeper {
    pub road: Road,
    pub number: i64,
    /// The shared connection of when it was made: with another one it may lead to another server.
    pub line: u64,
    /// It has waited before, so it may have broken since without anyone noticing.
    pub used: bool,
}

/// Why a wait has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    Brought,
    /// Its time is over, or somebody ended it.
    Over,
    /// Its connection is lost.
    Lost,
}

/// What a wait came to, and its connection where that can wait again.
pub type Waited = RedisResult<(Option<Sleeper>, Woken)>;

impl Sleeper {
    /// Waits for something in `list`, which goes to `inbox`; `told` says that the wait is ended on purpose. `None` when
    /// the connection is of no use any more; it is dropped then, and with it the wait. A new connection that fails is
    /// an error: whoever tried again and again would never rest.
    pub async fn wait(mut self, list: String, inbox: String, told: Arc<AtomicBool>) -> Waited {
        let began = Instant::now();
        let mut commands = redis::pipe();
        commands.cmd("CLIENT").arg("REPLY").arg("SKIP");
        commands.cmd("BLMOVE").arg(&list).arg(&inbox).arg("RIGHT").arg("LEFT").arg(WAIT.as_secs());
        commands.cmd("LLEN").arg(&inbox);
        // Of the three answers there is one.
        let answered = timeout(WAIT + MARGIN, self.road.connection.send_packed_commands(&commands, 0, 1)).await;
        let answered = answered.map(|answered| answered.and_then(|mut answers| answers.remove(0).extract_error()));
        match answered {
            Ok(Ok(Value::Int(0))) if began.elapsed() < WAIT / 2 && !told.load(Ordering::Relaxed) => {
                self.ask_why(list, inbox).await
            }
            Ok(Ok(Value::Int(count))) => {
                let woken = if count > 0 { Woken::Brought } else { Woken::Over };
                Ok((Some(Self { used: true, ..self }), woken))
            }
            // It is the message: this server does not leave the answer out, and the next one is not ours.
            Ok(Ok(_)) => Ok((None, Woken::Brought)),
            Ok(Err(error)) if self.used && error.is_io_error() => Ok((None, Woken::Lost)),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok((None, Woken::Lost)),
        }
    }

    // What nobody has ended was refused, and the answer that said why was left out.
    async fn ask_why(mut self, list: String, inbox: String) -> Waited {
        let mut command = redis::cmd("LMOVE");
        command.arg(list).arg(inbox).arg("RIGHT").arg("LEFT");
        match timeout(MARGIN, command.query_async::<Option<Vec<u8>>>(&mut self.road.connection)).await {
            Ok(moved) => {
                let woken = if moved?.is_some() { Woken::Brought } else { Woken::Over };
                Ok((Some(Self { used: true, ..self }), woken))
            }
            Err(_) => Ok((None, Woken::Lost)),
        }
    }
}
