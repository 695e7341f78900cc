//! Everybody's road to the queue: HTTP, beat, scripts and the command line submit, wait and revoke through here.
//!
//! A task is checked against the catalog before it is stored, so that a wrong name or argument is refused where it
//! was written and not found out by a worker later. A task that somebody else has ([`Routes`]) is sent unseen.

mod again;
mod batch;
mod follow;
mod once;
mod routes;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use serde::de::IgnoredAny;

pub use routes::{Route, Routes};

use crate::plugin::{ArgumentError, Catalog, Catalogs, Task, module_of};
use crate::script::{HostError, Submission};
use crate::store::{self, Filter, Page, Pushed, Revoked, Stores, Tick};
use crate::task::{
    BadName, Json, Message, NewMessage, Options, Priority, QueueName, Run, State, TaskId, Timestamp, check_name,
    did_you_mean, to_json,
};

pub use again::RetryError;
pub use batch::Batch;
pub use once::Once;

/// A task that someone wants to run.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub task: String,
    /// A JSON array; `None` is none.
    pub args: Option<Json>,
    /// A JSON object; `None` is none.
    pub kwargs: Option<Json>,
    /// Not before this much from now. With `eta` given too, `eta` counts.
    pub countdown: Option<Duration>,
    /// Not before this time.
    pub eta: Option<Timestamp>,
    /// Not started later than this; `None` is what the task declares.
    pub expires: Option<Expires>,
    /// `None` is where its route goes, else the task's own queue.
    pub queue: Option<QueueName>,
    /// `None` is the task's own.
    pub priority: Option<Priority>,
    /// `None` makes a random one.
    pub id: Option<TaskId>,
    /// `None` is the task's own.
    pub max_retries: Option<u32>,
    /// The task that sends this one.
    pub parent: Option<Parent>,
}

impl From<Submission> for Request {
    fn from(sent: Submission) -> Self {
        Self {
            task: sent.task,
            args: Some(to_json(&sent.args)),
            kwargs: Some(to_json(&sent.kwargs)),
            countdown: sent.countdown,
            eta: sent.eta,
            expires: sent.expires.map(Expires::After),
            queue: sent.queue,
            priority: sent.priority,
            id: sent.id,
            max_retries: sent.max_retries,
            parent: None,
        }
    }
}

/// When a task expires: Celery takes seconds from now or a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expires {
    After(Duration),
    At(Timestamp),
}

/// The task on whose behalf another one is sent.
#[derive(Debug, Clone)]
pub struct Parent {
    pub id: TaskId,
    pub root_id: Option<TaskId>,
}

/// A task that was stored.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Submitted {
    pub id: TaskId,
    pub state: State,
}

/// Why a task was not stored.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("no task named `{name}`{}", did_you_mean(.nearest.as_deref()))]
    UnknownTask { name: String, nearest: Option<String> },
    /// It would be in a file that cannot be loaded, and never could since this process began.
    #[error("no task named `{name}` now: {why}")]
    BrokenTask { name: String, why: String },
    #[error("arguments for `{name}` are not valid: {source}")]
    BadArguments { name: String, source: ArgumentError },
    #[error("`{field}` {reason}")]
    BadField { field: &'static str, reason: String },
    /// An argument that no script could read.
    #[error("`{place}` {reason}")]
    BadValue { place: String, reason: &'static str },
    #[error("the key `{key}` was used for another request within 24 hours: use a new one for each")]
    KeyReused { key: String },
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What a script catches when it sends a task.
impl From<SubmitError> for HostError {
    fn from(error: SubmitError) -> Self {
        let exc_type = match error {
            SubmitError::UnknownTask { .. } | SubmitError::BrokenTask { .. } => "NotRegistered",
            SubmitError::BadArguments { .. } => "TypeError",
            SubmitError::BadField { .. } | SubmitError::BadValue { .. } | SubmitError::KeyReused { .. } => "ValueError",
            SubmitError::Store(error) => return error.into(),
        };
        HostError::new(exc_type, error.to_string())
    }
}

/// What a script catches when it asks the store.
impl From<store::Error> for HostError {
    fn from(error: store::Error) -> Self {
        let exc_type = match error {
            store::Error::Away { .. } | store::Error::Held(_) => "ConnectionError",
            store::Error::Full { .. } => "OSError",
            store::Error::DuplicateId { .. } | store::Error::BadCursor { .. } | store::Error::Other(_) => "ValueError",
        };
        HostError::new(exc_type, error.to_string())
    }
}

impl SubmitError {
    /// Nothing in `catalog` is the task `name`: its file is broken, or it is meant to be another one.
    pub fn unknown(name: String, catalog: &Catalog) -> Self {
        let nearest = catalog.nearest(&name);
        let is_beside = nearest.is_some_and(|near| module_of(near) == module_of(&name));
        match catalog.broken_file_of(&name).filter(|_| !is_beside) {
            Some(broken) => Self::BrokenTask { name, why: broken.to_string() },
            None => Self::UnknownTask { nearest: nearest.map(str::to_owned), name },
        }
    }

    /// `field` has a name that is refused.
    pub fn bad_name(field: &'static str, why: BadName) -> Self {
        Self::BadField { field, reason: why.to_string() }
    }
}

/// Submits, waits, looks and revokes. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    stores: Stores,
    catalogs: Catalogs,
    routes: Arc<Routes>,
    origin: String,
}

impl Client {
    /// `origin` is written into each message as who sent it.
    pub fn new(stores: Stores, catalogs: Catalogs, origin: String) -> Self {
        Self { stores, catalogs, routes: Arc::default(), origin }
    }

    /// The same, which sends tasks where `routes` say.
    pub fn routed(self, routes: Routes) -> Self {
        Self { routes: Arc::new(routes), ..self }
    }

    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    pub fn catalogs(&self) -> &Catalogs {
        &self.catalogs
    }

    /// The queues in which the tasks of the current catalog are found, each once, sorted: their own, because foreign
    /// senders know no routes, and those that routes give them. Not those of tasks that somebody else is to run.
    pub fn queues(&self) -> Vec<QueueName> {
        let catalog = self.catalogs.current();
        let queues_of = |task: &Arc<Task>| match self.routes.of(&task.name) {
            Some(route) if route.remote => vec![],
            route => route.map(|route| route.queue.clone()).into_iter().chain([task.options.queue.clone()]).collect(),
        };
        catalog.tasks.values().flat_map(queues_of).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Checks and stores one task.
    pub async fn submit(&self, request: Request) -> Result<Submitted, SubmitError> {
        let message = self.prepare(&self.catalogs.current(), request)?;
        let submitted = accepted(&message);
        self.stores.queue.push(vec![message], None).await?;
        Ok(submitted)
    }

    /// Checks one task and stores it unless `tick` was taken before; then `None`.
    pub async fn submit_tick(&self, request: Request, tick: Tick) -> Result<Option<Submitted>, SubmitError> {
        let message = self.prepare(&self.catalogs.current(), request)?;
        let submitted = accepted(&message);
        match self.stores.queue.push(vec![message], Some(tick)).await? {
            Pushed::Stored => Ok(Some(submitted)),
            Pushed::Taken => Ok(None),
        }
    }

    /// Whether some route sends tasks to `queue`.
    pub fn routes_to(&self, queue: &QueueName) -> bool {
        self.routes.iter().any(|(_, route)| route.queue == *queue)
    }

    /// Checks a task without storing it.
    pub fn check(&self, request: Request) -> Result<(), SubmitError> {
        self.prepare(&self.catalogs.current(), request).map(drop)
    }

    fn prepare(&self, catalog: &Catalog, request: Request) -> Result<Message, SubmitError> {
        let route = self.routes.of(&request.task);
        let options = if route.is_some_and(|route| route.remote) {
            // Who has the task knows its arguments.
            check_name(&request.task).map_err(|why| SubmitError::bad_name("task", why))?;
            read_arguments(&request)?;
            &Options::default()
        } else {
            let Some(task) = catalog.task(&request.task) else {
                return Err(SubmitError::unknown(request.task, catalog));
            };
            request.args.iter().try_for_each(|args| values::check(args, "args"))?;
            request.kwargs.iter().try_for_each(|kwargs| values::check(kwargs, "kwargs"))?;
            let (args, kwargs) = read_arguments(&request)?;
            let placed = args.iter().map(|_| ()).collect();
            let named = kwargs.into_keys().map(|name| (name, ())).collect();
            task.bind(placed, named).map_err(|source| SubmitError::BadArguments { name: task.name.clone(), source })?;
            &task.options
        };
        // In Celery's order: the sender's word, the route, the task's own.
        let queue = request.queue.or_else(|| route.map(|route| route.queue.clone()));
        let now = Utc::now();
        let expires = match request.expires {
            Some(Expires::At(time)) => Some(time),
            Some(Expires::After(wait)) => Some(after(now, wait)),
            None => options.expires.map(|wait| after(now, wait)),
        };
        let (parent_id, root_id) = match request.parent {
            Some(parent) => (Some(parent.id.clone()), Some(parent.root_id.unwrap_or(parent.id))),
            None => (None, None),
        };
        Ok(NewMessage {
            id: request.id,
            args: request.args,
            kwargs: request.kwargs,
            queue: queue.unwrap_or_else(|| options.queue.clone()),
            priority: request.priority.unwrap_or(options.priority),
            eta: request.eta.or(request.countdown.map(|wait| after(now, wait))),
            expires,
            ignore_result: Some(options.ignore_result),
            max_retries: request.max_retries,
            parent_id,
            root_id,
            origin: Some(self.origin.clone()),
            task: request.task,
        }
        .build())
    }

    /// Everything kept of a task; `None` when it is unknown.
    pub async fn load(&self, id: &TaskId) -> store::Result<Option<Run>> {
        self.stores.results.load(id).await
    }

    /// The same, as soon as it has ended or `patience` is over.
    pub async fn wait(&self, id: &TaskId, patience: Duration) -> store::Result<Option<Run>> {
        self.stores.results.wait(id, patience).await
    }

    /// The runs that match, newest first, a page at a time.
    pub async fn search(&self, filter: &Filter) -> store::Result<Page> {
        self.stores.history.search(filter).await
    }

    /// Takes care that a task does not start; with `terminate` also stops a running one.
    pub async fn revoke(&self, id: &TaskId, terminate: bool) -> store::Result<Revoked> {
        self.stores.queue.revoke(id, terminate).await
    }
}

fn accepted(message: &Message) -> Submitted {
    let delayed = message.due_at().is_some_and(|due| due > Utc::now());
    Submitted { id: message.id.clone(), state: if delayed { State::Scheduled } else { State::Queued } }
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    chrono::Duration::from_std(wait).ok().and_then(|wait| now.checked_add_signed(wait)).unwrap_or(Timestamp::MAX_UTC)
}

/// The arguments without their values, which are only counted here; who runs the task reads them.
type Arguments = (Vec<IgnoredAny>, BTreeMap<String, IgnoredAny>);

fn read_arguments(request: &Request) -> Result<Arguments, SubmitError> {
    let args = read(request.args.as_ref(), "args", "a JSON array")?;
    Ok((args, read(request.kwargs.as_ref(), "kwargs", "a JSON object")?))
}

fn read<T: serde::de::DeserializeOwned + Default>(
    json: Option<&Json>,
    field: &'static str,
    form: &str,
) -> Result<T, SubmitError> {
    let Some(json) = json else { return Ok(T::default()) };
    serde_json::from_str(json.get()).map_err(|_| SubmitError::BadField { field, reason: format!("must be {form}") })
}
