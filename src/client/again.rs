//! Runs an ended task again, as a new task.

use super::{Client, Parent, Request, SubmitError, Submitted};
use crate::store;
use crate::task::{Priority, Run, State, TaskId};

/// Why a task was not run again.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    #[error("no task with the id `{id}` is known")]
    Unknown { id: TaskId },
    #[error("the task `{id}` is {}: only one that has ended is run again", .state.as_str())]
    NotEnded { id: TaskId, state: State },
    #[error("the arguments of the task `{id}` are not kept any more: send it anew")]
    ArgumentsGone { id: TaskId },
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl From<store::Error> for RetryError {
    fn from(error: store::Error) -> Self {
        Self::Submit(error.into())
    }
}

impl Client {
    /// Sends the task of an ended run once more: a new id, the same arguments, queue and priority, and the same parent.
    pub async fn retry(&self, id: &TaskId) -> Result<Submitted, RetryError> {
        let run = self.load(id).await?.ok_or_else(|| RetryError::Unknown { id: id.clone() })?;
        Ok(self.submit(again(run)?).await?)
    }
}

fn again(run: Run) -> Result<Request, RetryError> {
    if !run.state.is_final() {
        return Err(RetryError::NotEnded { id: run.id, state: run.state });
    }
    let (Some(args), Some(kwargs)) = (run.args, run.kwargs) else {
        return Err(RetryError::ArgumentsGone { id: run.id });
    };
    // A task that was tried more than once is its own parent, as in Celery.
    let parent = run.parent_id.filter(|parent| *parent != run.id);
    Ok(Request {
        task: run.task,
        args: Some(args),
        kwargs: Some(kwargs),
        queue: Some(run.queue),
        priority: Some(Priority(run.priority)),
        parent: parent.map(|id| Parent { id, root_id: run.root_id }),
        ..Request::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(fields: serde_json::Value) -> Run {
        let mut run = json!({
            "id": "mine", "task": "math.add", "state": "FAILURE", "queue": "io", "priority": 3, "retries": 2,
            "args": [1, 2], "kwargs": {},
        });
        run.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_str(&run.to_string()).unwrap()
    }

    #[test]
    fn the_same_is_asked_for_under_a_new_id() {
        let request = again(run(json!({ "parent_id": "boss", "root_id": "top" }))).unwrap();

        assert_eq!((request.task.as_str(), request.id, request.args.unwrap().get()), ("math.add", None, "[1,2]"));
        assert_eq!((request.queue.unwrap().as_str(), request.priority), ("io", Some(Priority(3))));
        let parent = request.parent.unwrap();
        assert_eq!((parent.id.as_str(), parent.root_id.unwrap().as_str()), ("boss", "top"));
    }

    #[test]
    fn a_task_that_was_its_own_parent_has_none() {
        assert!(again(run(json!({ "parent_id": "mine", "root_id": "mine" }))).unwrap().parent.is_none());
    }

    #[test]
    fn what_has_not_ended_or_cannot_be_repeated_is_not_run_again() {
        for state in ["SCHEDULED", "QUEUED", "STARTED", "RETRY"] {
            assert!(matches!(again(run(json!({ "state": state }))), Err(RetryError::NotEnded { .. })), "{state}");
        }
        assert!(matches!(again(run(json!({ "kwargs": null }))), Err(RetryError::ArgumentsGone { .. })));
    }
}
