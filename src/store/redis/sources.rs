//! The code that runs ran: one hash, the files of each version as JSON.

use std::collections::{BTreeMap, HashSet};

use anyhow::Context;
use async_trait::async_trait;

use crate::store::{Result, Source, Sources};
use crate::task::to_json;

use super::Redis;

/// How many bytes of code go to Redis in one call, so that it never keeps others waiting for long.
const AT_ONCE: usize = 1 << 20;
/// How many hashes are asked for in one call.
const ASKED: usize = 1000;

#[async_trait]
impl Sources for Redis {
    async fn keep(&self, sources: Vec<Source>) -> Result<()> {
        let mut missing = HashSet::new();
        for some in sources.chunks(ASKED) {
            missing.extend(self.hand_over(some.iter().map(|source| (source.hash.as_str(), ""))).await?);
        }
        let mut texts = Vec::new();
        let mut bytes = 0;
        for source in &sources {
            // Once, though it may be named twice.
            if missing.remove(&source.hash) {
                let files = to_json(&source.files).get().to_owned();
                bytes += files.len();
                texts.push((source.hash.as_str(), files));
            }
            if bytes >= AT_ONCE {
                self.hand_over(texts.drain(..)).await?;
                bytes = 0;
            }
        }
        self.hand_over(texts).await?;
        Ok(())
    }

    async fn source(&self, hash: &str) -> Result<Option<Source>> {
        let look = redis::Cmd::hget(self.connection.keys().sources(), hash);
        let Some(files) = self.connection.ask::<Option<Vec<u8>>>(&look).await? else { return Ok(None) };
        let files: BTreeMap<String, String> = serde_json::from_slice(&files)
            .with_context(|| format!("what is kept as the source `{hash}` is no JSON"))?;
        Ok(Some(Source { hash: hash.to_owned(), files }))
    }
}

impl Redis {
    // The hashes of those that are not kept.
    async fn hand_over<'a>(
        &self,
        sources: impl IntoIterator<Item = (&'a str, impl AsRef<str>)>,
    ) -> Result<Vec<String>> {
        let mut call = self.connection.scripts().keep_sources.prepare_invoke();
        let mut bytes = 0;
        for (hash, files) in sources {
            bytes += hash.len() + files.as_ref().len();
            call.arg(hash).arg(files.as_ref());
        }
        if bytes == 0 { Ok(Vec::new()) } else { self.connection.run_with(bytes, &call).await }
    }
}
