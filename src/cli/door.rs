//! The way to a running umbel: its HTTP, found by the lock file of the folder or by an address that is given.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::Settings;
use crate::http::path_part;
use crate::script::Broken;
use crate::store::{Lock, lock_path};

/// How long one answer may take beyond what is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The largest answer that is read, in bytes. A larger one is an error.
const LARGEST: u64 = 64 << 20;

/// Which umbel to talk to.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Reach {
    /// The umbel to talk to, instead of the one that serves the folder.
    #[arg(long, value_name = "URL", env = "UMBEL_SERVER", hide_env_values = true)]
    pub server: Option<String>,
    /// The token that lets one in there; the variable does not show in the list of processes.
    #[arg(long, env = "UMBEL_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// Why there is no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("no umbel serves `{folder}`: start one there with `umbel up`, or name another by `--server`")]
    Nobody { folder: String },
    #[error("the umbel at {address} does not answer ({source})")]
    Lost { address: String, source: Box<ureq::Error> },
    #[error("`{address}` is no address of an umbel: write `http://HOST:PORT`; TLS is for a proxy on this machine")]
    Address { address: String },
    #[error("{detail}")]
    Refused { status: u16, detail: String },
}

/// A running umbel.
pub(super) struct Door {
    agent: ureq::Agent,
    /// `http://HOST:PORT`.
    address: String,
    token: Option<String>,
    /// It was found by the lock file, so that it is on this machine, whatever address it listens on.
    is_local: bool,
}

impl Door {
    /// `settings` are read only where no address is given.
    pub fn open(reach: Reach, settings: impl FnOnce() -> Result<Settings, Broken>) -> anyhow::Result<Self> {
        // A proxy is for other machines.
        let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        if let Some(address) = reach.server {
            return Ok(Self { agent, address: base(&address)?, token: reach.token, is_local: false });
        }
        let settings = settings()?;
        let holder = Lock::holder(&lock_path(&settings.store, &settings.folder))?;
        let nobody = || Unanswered::Nobody { folder: settings.folder.display().to_string() };
        let holder = holder.ok_or_else(nobody)?;
        let address = format!("http://{}", holder.address.ok_or_else(nobody)?);
        Ok(Self { agent, address, token: reach.token.or(Some(holder.token)), is_local: true })
    }

    /// The text that is at `path`.
    pub fn get(&self, path: &str) -> Result<String, Unanswered> {
        self.get_within(path, Duration::ZERO)
    }

    /// The same; the other side may take `wait` for it.
    pub fn get_within(&self, path: &str, wait: Duration) -> Result<String, Unanswered> {
        let request = self.agent.get(format!("{}{path}", self.address));
        let request = request.config().timeout_global(Some(PATIENCE + wait)).build();
        self.read(self.signed(request).call())
    }

    /// What `path` answers to `body`.
    pub fn post(&self, path: &str, body: &str) -> Result<String, Unanswered> {
        self.post_within(path, body, Duration::ZERO)
    }

    /// The same; the other side may take `wait` for it.
    pub fn post_within(&self, path: &str, body: &str, wait: Duration) -> Result<String, Unanswered> {
        let request = self.agent.post(format!("{}{path}", self.address)).header("content-type", "application/json");
        let request = request.config().timeout_global(Some(PATIENCE + wait)).build();
        self.read(self.signed(request).send(body))
    }

    fn signed<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        // `0.0.0.0` is an address to listen on and no name that HTTP answers to, nor need any other be in `hosts`.
        let request = if self.is_local { request.header("host", "localhost") } else { request };
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn read(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<String, Unanswered> {
        let lost = |error| Unanswered::Lost { address: self.address.clone(), source: Box::new(error) };
        let mut answer = answer.map_err(lost)?;
        let text = answer.body_mut().with_config().limit(LARGEST).read_to_string().map_err(lost)?;
        match answer.status().as_u16() {
            200..300 => Ok(text),
            status => Err(Unanswered::Refused { status, detail: detail(&text) }),
        }
    }
}

/// Reads an answer.
pub(super) fn read<T: DeserializeOwned>(answer: &str) -> anyhow::Result<T> {
    use anyhow::Context;
    serde_json::from_str(answer).context("the answer is of another version of umbel")
}

/// `path` with those of the fields that are given.
pub(super) fn with_query(path: &str, fields: &[(&str, Option<String>)]) -> String {
    let fields = fields.iter().filter_map(|(name, value)| Some(format!("{name}={}", path_part(value.as_ref()?))));
    let query: Vec<String> = fields.collect();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

// People write addresses as they see them: with and without a scheme, with a slash at the end.
fn base(address: &str) -> Result<String, Unanswered> {
    let bad = || Unanswered::Address { address: address.to_owned() };
    let place = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    if place.is_empty() || place.contains(['/', '?', '#', '@']) || place.contains(char::is_whitespace) {
        return Err(bad());
    }
    Ok(format!("http://{place}"))
}

fn detail(text: &str) -> String {
    #[derive(Deserialize)]
    struct Document {
        detail: String,
    }
    serde_json::from_str(text).map_or_else(|_| text.to_owned(), |document: Document| document.detail)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn who_listens_everywhere_is_asked_by_the_name_of_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { folder: folder.path().to_owned(), ..Settings::default() };
        let lock = Lock::take(&lock_path(&settings.store, &settings.folder)).unwrap();
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        lock.announce(&listener.local_addr().unwrap().to_string()).unwrap();
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
            String::from_utf8(head).unwrap().to_lowercase()
        });

        Door::open(Reach::default(), || Ok(settings)).unwrap().get("/readyz").unwrap();

        let head = asked.join().unwrap();
        assert_eq!(head.matches("\r\nhost: ").count(), 1, "{head}");
        assert!(head.contains("\r\nhost: localhost\r\n"), "{head}");
    }

    #[test]
    fn an_address_is_read_as_people_write_it() {
        for (written, read) in [
            ("http://10.0.0.5:8080", "http://10.0.0.5:8080"),
            ("http://umbel.internal/", "http://umbel.internal"),
            ("localhost:8080", "http://localhost:8080"),
        ] {
            assert_eq!(base(written).unwrap(), read);
        }
        for wrong in ["", "https://umbel.internal", "http://a/b", "http://", "ann@host"] {
            assert!(matches!(base(wrong), Err(Unanswered::Address { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_query_has_what_is_given() {
        let some = |text: &str| Some(text.to_owned());

        assert_eq!(with_query("/x", &[("a", None)]), "/x");
        assert_eq!(
            with_query("/x", &[("a", some("1 & 2")), ("b", None), ("c", some("세"))]),
            "/x?a=1%20%26%202&c=%EC%84%B8"
        );
    }
}
