//! Keeps the shared connection: finds out when Redis cannot be used, says so, and mends it.
//!
//! Whoever has a call fail casts a doubt on the connection. The keeper then asks Redis itself: what answers is in
//! order, what is silent a second time is dropped and made anew. As long as Redis cannot be used there is either no
//! connection, for which callers wait as long as their patience lasts, or one on which Redis refuses; it is tried again
//! until it works. An idle connection costs nothing: there is no pulse.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::dialer::{Dialed, Dialer};
use super::fault::{Fault, PATIENCE, Remedy};
use super::transport::{Road, Server};
use crate::store::outage::Outage;

/// The pauses between tries: each twice the one before, and of that a random part of a half at least, so that many
/// processes do not come back at the same moment.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// How often it is told that calls fail although Redis answers.
const MURMURS: Duration = Duration::from_secs(60);

/// The shared connection as it is now.
#[derive(Clone)]
pub struct Line {
    /// Which connection it is: they are counted.
    pub number: u64,
    /// Whom it leads to, or led to last.
    pub server: Server,
    /// `None` while it is made anew.
    pub road: Option<Road>,
    /// Why Redis cannot be used; `None` while it can, as far as anybody knows.
    pub fault: Option<Fault>,
}

impl Line {
    pub fn new(Dialed { server, road, fault }: Dialed) -> Self {
        Self { number: 0, server, road: Some(road), fault }
    }
}

/// That a connection may be lost.
#[derive(Clone)]
pub struct Doubt {
    pub number: u64,
    /// Why a call over it failed; `None` where it is only that another connection was lost.
    pub failed: Option<String>,
}

pub struct Keeper {
    dialer: Arc<Dialer>,
    line: watch::Sender<Line>,
    doubts: watch::Receiver<Option<Doubt>>,
    outage: Outage,
    /// When work went on, or a failing call was told: what fails because of it is no news for a while.
    quiet_until: Instant,
}

impl Keeper {
    pub fn new(dialer: Arc<Dialer>, line: watch::Sender<Line>, doubts: watch::Receiver<Option<Doubt>>) -> Self {
        Self { dialer, line, doubts, outage: Outage::default(), quiet_until: Instant::now() }
    }

    /// Ends when nobody is left who could doubt.
    pub async fn keep(mut self) {
        let not_yet = self.line.borrow().fault.clone();
        if let Some(fault) = not_yet {
            self.outlast(fault).await;
        }
        while self.doubts.changed().await.is_ok() {
            let Some(doubt) = self.doubts.borrow_and_update().clone() else { continue };
            let Line { number, road, .. } = self.line.borrow().clone();
            let Some(road) = road.filter(|_| number == doubt.number) else { continue };
            match self.dialer.probe(&road).await {
                Ok(()) => doubt.failed.iter().for_each(|reason| self.murmur(reason)),
                Err(fault) => self.mend(fault).await,
            }
        }
    }

    async fn mend(&mut self, fault: Fault) {
        let fault = match fault.remedy {
            Remedy::Wait | Remedy::MakeRoom => fault,
            Remedy::Redial | Remedy::Allow | Remedy::Mend => match self.redial().await {
                Ok(()) => {
                    info!("the connection to {} was lost and is made again", self.dialer.place());
                    return self.be_quiet(2 * PATIENCE);
                }
                Err(fault) => fault,
            },
        };
        self.outlast(fault).await;
    }

    /// Tries until Redis can be used again.
    async fn outlast(&mut self, mut fault: Fault) {
        let mut pause = FIRST_PAUSE;
        loop {
            self.outage.begins(&format!("{}: {}", self.dialer.place(), fault.reason));
            let road = self.line.borrow().road.clone();
            self.line.send_modify(|line| line.fault = Some(fault));
            let part = rand::rng().random_range(0.5..1.0);
            sleep(pause.mul_f64(part)).await;
            pause = (pause * 2).min(LAST_PAUSE);

            let tried = match road {
                Some(road) => self.dialer.probe(&road).await,
                None => self.redial().await,
            };
            match tried {
                Ok(()) => break,
                Err(new) => fault = new,
            }
            if !matches!(fault.remedy, Remedy::Wait | Remedy::MakeRoom) {
                self.line.send_modify(|line| line.road = None);
            }
        }
        self.line.send_modify(|line| line.fault = None);
        self.outage.ends(self.dialer.place());
        self.be_quiet(2 * PATIENCE);
    }

    /// Another connection in the place of this one. An error that passes may leave a connection, on which Redis does
    /// not do yet what it is asked.
    async fn redial(&self) -> Result<(), Fault> {
        self.line.send_modify(|line| line.road = None);
        let Dialed { server, road, fault } = self.dialer.dial().await?;
        self.line.send_modify(|line| {
            let number = line.number + 1;
            *line = Line { number, server, road: Some(road), fault: fault.clone() };
        });
        fault.map_or(Ok(()), Err)
    }

    fn be_quiet(&mut self, time: Duration) {
        self.doubts.mark_unchanged();
        self.quiet_until = Instant::now() + time;
    }

    fn murmur(&mut self, reason: &str) {
        if Instant::now() >= self.quiet_until {
            self.quiet_until = Instant::now() + MURMURS;
            warn!("a call to {} failed, though it answers others: {reason}", self.dialer.place());
        }
    }
}
