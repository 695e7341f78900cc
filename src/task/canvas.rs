//! Which messages follow a task: the callbacks and errbacks that its sender put into it.
//!
//! They are Celery's signatures, dictionaries as `celery/canvas.py` of Celery 5 makes them. What is sent of them follows
//! its worker: `_dispatch_callbacks_and_chain` of `celery/app/trace.py` after a value, `_call_task_errbacks` of
//! `celery/backends/base.py` after a failure, for tasks that it does not know. Only one level is read; what is linked to
//! a follower goes with it as it is written, however deep, and is read by who runs the follower.

mod signature;

use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use self::signature::Signature;
use super::{Embed, Failure, Json, MAX_BODY, Message, Options, TaskId, Timestamp, to_json};

/// The most callbacks, and the most errbacks, of one task. One with more fails before it starts.
const MOST: usize = 1_000;

/// What follows a task, read from its message.
#[derive(Debug, Clone, Default)]
pub struct Followers {
    callbacks: Vec<Signature>,
    errbacks: Vec<Signature>,
}

/// Who sends what follows, and when.
#[derive(Clone, Copy)]
pub struct Sender<'a> {
    /// As `name@host`.
    pub origin: &'a str,
    pub now: Timestamp,
    /// What is declared of a task, with the queue where it goes when nobody says another.
    pub declared: &'a dyn Fn(&str) -> Options,
}

/// The value of a task is too large for all that would follow with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its {followers} callbacks would be {bytes} bytes with the value; {MAX_BODY} are allowed")]
pub struct TooMuch {
    followers: usize,
    bytes: usize,
}

impl Followers {
    /// Reads what follows a task, and tells why the task must not start: running it and dropping what should follow would
    /// lose work without a word. Its errbacks are there then all the same, where they can be read.
    pub fn read(embed: &Embed) -> (Self, Result<(), Failure>) {
        let (errbacks, bad_errbacks) = read_all("errbacks", embed.errbacks.as_deref());
        let (callbacks, bad_callbacks) = read_all("callbacks", embed.callbacks.as_deref());
        let workflow = match embed {
            Embed { chain: Some(chain), .. } if !chain.is_empty() => Err(not_built("a chain")),
            Embed { chord: Some(_), .. } => Err(not_built("a chord")),
            _ => Ok(()),
        };
        (Self { callbacks, errbacks }, bad_errbacks.and(bad_callbacks).and(workflow))
    }

    /// The messages that follow when `parent` returned `value`, each with it as the first argument.
    ///
    /// # Errors
    /// When all of them together would be larger than one body may be.
    pub fn after_success(&self, parent: &Message, value: &Json, sender: Sender<'_>) -> Result<Vec<Message>, TooMuch> {
        let bytes = self.callbacks.iter().map(|callback| callback.size(value)).sum();
        if bytes > MAX_BODY {
            return Err(TooMuch { followers: self.callbacks.len(), bytes });
        }
        Ok(messages(&self.callbacks, "callback", parent, value, sender))
    }

    /// The errbacks of a task that fails without having been read: what of them can be read.
    pub fn of_unread(parent: &Message, sender: Sender<'_>) -> Vec<Message> {
        let body = parent.read_body::<IgnoredAny, IgnoredAny>();
        body.map_or_else(|_| Vec::new(), |(.., embed)| Self::read(&embed).0.after_failure(parent, sender))
    }

    /// The messages that follow when `parent` failed, each with its id as the first argument.
    pub fn after_failure(&self, parent: &Message, sender: Sender<'_>) -> Vec<Message> {
        messages(&self.errbacks, "errback", parent, &to_json(&parent.id), sender)
    }
}

fn messages(signatures: &[Signature], kind: &str, parent: &Message, first: &Json, sender: Sender<'_>) -> Vec<Message> {
    let line = signatures.iter().enumerate();
    line.map(|(place, signature)| signature.message(parent, || id_of(parent, kind, place), first, sender)).collect()
}

/// The id of a follower whose signature has none: the same whenever the same sending of `parent` comes to its end, so
/// that a run that is repeated after a death sends nobody twice.
fn id_of(parent: &Message, kind: &str, place: usize) -> TaskId {
    let tag = parent.delivery_tag().unwrap_or_default();
    let digest = Sha256::digest(format!("umbel\n{}\n{tag}\n{kind}\n{place}", parent.id));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    TaskId::parse(&uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()).expect("a UUID is a name")
}

/// Those of a list that can be read, and what is wrong with the first of the others.
fn read_all(name: &str, written: Option<&[Json]>) -> (Vec<Signature>, Result<(), Failure>) {
    let written = written.unwrap_or_default();
    if written.len() > MOST {
        let why = format!("it has {} {name}; {MOST} are allowed", written.len());
        return (Vec::new(), Err(Failure::builtin("ValueError", why)));
    }
    let mut signatures = Vec::with_capacity(written.len());
    let mut fault = Ok(());
    for (place, written) in written.iter().enumerate() {
        match Signature::read(written) {
            Ok(signature) => signatures.push(signature),
            Err(why) => {
                let exc_message = format!("{name}[{place}] of its body cannot be sent: {}", why.exc_message);
                fault = fault.and(Err(Failure { exc_message, ..why }));
            }
        }
    }
    (signatures, fault)
}

fn not_built(what: &str) -> Failure {
    let why = format!("this version does not run {what} that follows a task; send its tasks one by one");
    Failure::builtin("NotImplementedError", why)
}

#[cfg(test)]
mod tests;
