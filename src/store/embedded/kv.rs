//! Small values that scripts share.

use std::time::Duration;

use anyhow::anyhow;
use async_trait::async_trait;
use chrono::Utc;
use rusqlite::{Connection, OptionalExtension, params};

use super::Embedded;
use super::desk::Desk;
use super::file::Outcome;
use super::rows::micros;
use crate::store::{Error, KeyValue, Result};
use crate::task::Json;

#[async_trait]
impl KeyValue for Embedded {
    async fn get(&self, key: &str) -> Result<Option<Json>> {
        let key = key.to_owned();
        let text = self.readers.read(move |db| Ok(get(db, &key)?)).await?;
        text.map(|text| serde_json::value::RawValue::from_string(text).map_err(|error| anyhow!(error).into()))
            .transpose()
    }

    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>, only_new: bool) -> Result<bool> {
        let key = key.to_owned();
        self.writer.write(move |desk| desk.set(&key, value.get(), ttl, only_new)).await
    }

    async fn incr(&self, key: &str, by: i64) -> Result<i64> {
        let key = key.to_owned();
        self.writer.write(move |desk| desk.incr(&key, by)).await
    }

    async fn delete(&self, key: &str, expected: Option<Json>) -> Result<bool> {
        let key = key.to_owned();
        self.writer.write(move |desk| desk.delete(&key, expected)).await
    }
}

fn get(db: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    db.prepare_cached("SELECT value FROM kv WHERE key = ?1 AND (expires_at IS NULL OR expires_at > ?2)")?
        .query_row(params![key, micros(Utc::now())], |row| row.get(0))
        .optional()
}

impl Desk {
    fn set(&self, key: &str, value: &str, ttl: Option<Duration>, only_new: bool) -> Outcome<bool> {
        let now = Utc::now();
        // A time that no calendar has is for good.
        let expires = ttl.and_then(|ttl| now.checked_add_signed(chrono::Duration::from_std(ttl).ok()?));
        let set = self.execute(
            "INSERT INTO kv VALUES (?1, ?2, ?3) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at \
             WHERE NOT ?4 OR expires_at <= ?5",
            params![key, value, expires.map(micros), only_new, micros(now)],
        )?;
        Ok(set > 0)
    }

    fn incr(&self, key: &str, by: i64) -> Outcome<i64> {
        let refuse = |why: &str| Error::Other(anyhow!("`{key}` {why}"));
        let Some(text) = get(&self.db, key)? else {
            self.set(key, &by.to_string(), None, false)?;
            return Ok(by);
        };
        let number: i64 = serde_json::from_str(&text).map_err(|_| refuse("is no integer"))?;
        let sum = number.checked_add(by).ok_or_else(|| refuse("would not fit 64 bits"))?;
        self.execute("UPDATE kv SET value = ?2 WHERE key = ?1", params![key, sum.to_string()])?;
        Ok(sum)
    }

    fn delete(&self, key: &str, expected: Option<Json>) -> Outcome<bool> {
        let Some(text) = get(&self.db, key)? else { return Ok(false) };
        if expected.is_some_and(|expected| read(expected.get()) != read(&text)) {
            return Ok(false);
        }
        Ok(self.execute("DELETE FROM kv WHERE key = ?1", [key])? > 0)
    }
}

// As values, so that spaces in the text do not count.
fn read(text: &str) -> Option<serde_json::Value> {
    serde_json::from_str(text).ok()
}
