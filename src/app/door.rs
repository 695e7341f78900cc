//! The part of a process that others reach: a listener, a lock by which commands find it, sockets.

use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tracing::warn;

use super::{Ends, Plan};
use crate::beat::Board;
use crate::channels::{self, Hub};
use crate::client::Client;
use crate::config::Settings;
use crate::http::{self, AppState, Metrics};
use crate::plugin::Loader;
use crate::store::{self, Lock, Stores};

/// A door that is open: whoever comes is kept waiting until it is served.
pub(super) struct Door {
    client: Client,
    pub hub: Hub,
    listener: TcpListener,
    /// Where it listens.
    pub address: String,
    /// `None` when another process of the folder has it.
    lock: Option<Arc<Lock>>,
}

impl Door {
    /// `None` when this process is to have none.
    ///
    /// # Errors
    /// When the address is taken, or the lock cannot be written.
    pub async fn open(
        plan: &Plan,
        settings: &Settings,
        client: &Client,
        loader: &Loader,
    ) -> anyhow::Result<Option<Self>> {
        if !plan.role.is_door() && !plan.listens {
            return Ok(None);
        }
        let lock = lock(settings, client.stores())?;
        let hub = Hub::new(loader.engine(), client.clone(), channels::Settings::default());
        let (listener, address) = listen(settings).await?;
        if let Some(lock) = &lock {
            lock.announce(&address)?;
        }
        Ok(Some(Self { client: client.clone(), hub, listener, address, lock }))
    }

    /// Answers until it is to close. From the stop on it says that it is not ready.
    pub fn serve(
        self,
        settings: &Settings,
        board: Board,
        metrics: Metrics,
        ends: Ends,
    ) -> impl Future<Output = ()> + use<> {
        let state = AppState {
            client: self.client,
            hub: self.hub,
            hosts: settings.hosts.clone(),
            board,
            tokens: settings.tokens.clone(),
            local_token: self.lock.as_ref().map(|lock| lock.token().to_owned()),
            metrics,
            stopping: ends.stop,
        };
        // The lock is held as long as the door is open.
        let (listener, lock) = (self.listener, self.lock);
        async move {
            http::serve(listener, state, ends.close).await;
            drop(lock);
        }
    }
}

// An embedded store brings its lock. Over Redis any number of processes may serve the folder; commands find the
// first of them.
fn lock(settings: &Settings, stores: &Stores) -> store::Result<Option<Arc<Lock>>> {
    if let Some(lock) = &stores.lock {
        return Ok(Some(lock.clone()));
    }
    match Lock::take(&store::lock_path(&settings.store, &settings.folder)) {
        Ok(lock) => Ok(Some(Arc::new(lock))),
        Err(store::Error::Held(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn listen(settings: &Settings) -> anyhow::Result<(TcpListener, String)> {
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("cannot listen on `{}`; choose another with `--listen`", settings.listen))?;
    let address = listener.local_addr()?.to_string();
    if !settings.listen.ip().is_loopback() && settings.hosts.is_empty() {
        warn!("requests from other machines are refused until `hosts` names under what names they reach {address}");
    }
    Ok((listener, address))
}
