//! Tasks that workers of another kind ended: their end is written down by who meets it first, someone who asks or the
//! timer.

use std::collections::HashMap;

use crate::store::Result;
use crate::task::{Run, TaskId};

use super::Redis;
use super::record::{Ended, LISTED, Record};

/// What is kept of one run: the fields of its record, and Celery's result.
type Found = (Vec<Option<Vec<u8>>>, Option<Vec<u8>>);

/// What is kept of one task, read at once.
pub struct Look {
    pub run: Run,
    /// Only Celery's result says how it ended.
    ended_elsewhere: bool,
}

impl Look {
    pub fn at(id: &TaskId, record: Option<Record>, meta: Option<&[u8]>) -> Option<Self> {
        let record = record?;
        let was_final = record.is_final();
        let run = record.run(id, meta)?;
        Some(Self { ended_elsewhere: !was_final && run.state.is_final(), run })
    }
}

impl Redis {
    /// The runs of these tasks without their logs; `None` for one that is unknown.
    pub(super) async fn look_at_all(&self, ids: &[TaskId]) -> Result<Vec<Option<Run>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.connection.keys();
        let mut look = redis::pipe();
        for id in ids {
            look.cmd("HMGET").arg(keys.run(id)).arg(&LISTED).get(keys.meta(id));
        }
        let found: Vec<redis::Value> = self.connection.ask_all(&look).await?;
        let mut looks = Vec::with_capacity(ids.len());
        for (id, pair) in ids.iter().zip(found.chunks_exact(2)) {
            let (fields, meta): Found = redis::from_redis_value(redis::Value::Array(pair.to_vec()))
                .map_err(|error| anyhow::anyhow!("the record of a run is not a hash: {error}"))?;
            looks.push(Look::at(id, Record::of_listed(fields), meta.as_deref()));
        }
        self.write_ends(looks.iter().flatten()).await?;
        Ok(looks.into_iter().map(|look| look.map(|look| look.run)).collect())
    }

    /// The same of one, with its log.
    pub(super) async fn look_at(&self, id: &TaskId) -> Result<Option<Run>> {
        let mut look = redis::pipe();
        look.hgetall(self.connection.keys().run(id)).get(self.connection.keys().meta(id));
        let (fields, meta): (HashMap<String, Vec<u8>>, Option<Vec<u8>>) = self.connection.ask_all(&look).await?;
        let look = Look::at(id, Record::new(fields), meta.as_deref());
        self.write_ends(look.iter()).await?;
        Ok(look.map(|look| look.run))
    }

    async fn write_ends(&self, looks: impl Iterator<Item = &Look>) -> Result<()> {
        let mut call = self.connection.scripts().ended_elsewhere.prepare_invoke();
        call.arg(self.settings.history);
        let mut any = false;
        for Look { run, .. } in looks.filter(|look| look.ended_elsewhere) {
            any = true;
            call.arg(run.id.as_str()).arg(run.state.as_str()).arg(Ended::text_of_run(run));
        }
        if any { self.connection.run(&call).await } else { Ok(()) }
    }
}
