//! Values that scripts share: each is its JSON text under a key of its own, so that Redis can add and expire.

use std::time::Duration;

use anyhow::{Context, anyhow};
use async_trait::async_trait;

use crate::store::{Error, KeyValue, Result};
use crate::task::{Json, to_json};

use super::Redis;

#[async_trait]
impl KeyValue for Redis {
    async fn get(&self, key: &str) -> Result<Option<Json>> {
        let text: Option<String> =
            self.connection.ask(redis::cmd("GET").arg(self.connection.keys().value(key))).await?;
        let value = text.map(|text| serde_json::from_str(&text)).transpose();
        Ok(value.with_context(|| format!("the value of `{key}` is not JSON"))?)
    }

    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>, only_new: bool) -> Result<bool> {
        let mut command = redis::cmd("SET");
        command.arg(self.connection.keys().value(key)).arg(plain(&value));
        if let Some(ttl) = ttl {
            command.arg("PX").arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX >> 12).clamp(1, u64::MAX >> 12));
        }
        if only_new {
            command.arg("NX");
        }
        let done: Option<String> = self.connection.ask(&command).await?;
        Ok(done.is_some())
    }

    async fn incr(&self, key: &str, by: i64) -> Result<i64> {
        let sum = self.connection.ask(redis::cmd("INCRBY").arg(self.connection.keys().value(key)).arg(by)).await;
        sum.map_err(|error| match error {
            Error::Other(cause) => anyhow!("cannot add {by} to `{key}`: {cause}").into(),
            error => error,
        })
    }

    async fn delete(&self, key: &str, expected: Option<Json>) -> Result<bool> {
        let deleted: u64 = match expected {
            None => self.connection.ask(redis::cmd("DEL").arg(self.connection.keys().value(key))).await?,
            Some(expected) => {
                let call = &mut self.connection.scripts().delete_expected.prepare_invoke();
                self.connection.run(call.arg(self.connection.keys().value(key)).arg(plain(&expected))).await?
            }
        };
        Ok(deleted > 0)
    }
}

// One text for one value, however its sender spaced it.
fn plain(value: &Json) -> String {
    match serde_json::from_str::<serde_json::Value>(value.get()) {
        Ok(value) => to_json(&value).get().to_owned(),
        Err(_) => value.get().to_owned(),
    }
}
