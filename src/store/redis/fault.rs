//! What an error of Redis means: whether it passes, whether another connection would help, and all of it in words.

use std::io;
use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::Error;

/// How long a call may take before Redis counts as away.
pub const PATIENCE: Duration = Duration::from_millis(900);

/// What can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// A new connection: this one is gone, leads nowhere, or leads to what is not the primary any more.
    Redial,
    /// Nothing but time: Redis answers, and will do what it is asked later.
    Wait,
    /// Somebody makes room.
    MakeRoom,
    /// Somebody changes who we are to Redis, or who we say that we are. On the way to a connection a new one helps.
    Allow,
    /// The same call fails the same way again.
    Mend,
}

/// Why Redis did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub remedy: Remedy,
    /// In words that follow the place: `nothing listens there`.
    pub reason: String,
}

impl Fault {
    pub fn new(remedy: Remedy, reason: impl Into<String>) -> Self {
        Self { remedy, reason: reason.into() }
    }

    /// Time or somebody mends it, so that the same call is worth another try.
    pub fn passes(&self) -> bool {
        self.remedy != Remedy::Mend
    }

    /// As the callers of a store that was open see it: a connection is tried again until there is one, so that even
    /// what needs somebody's hand passes.
    pub fn meanwhile(self, place: &str) -> Error {
        match self.remedy {
            Remedy::MakeRoom => self.at(place),
            _ => Self { remedy: Remedy::Redial, ..self }.at(place),
        }
    }

    /// As who opens the store sees it; `place` names this Redis.
    pub fn at(self, place: &str) -> Error {
        let said = format!("{place}: {}", self.reason);
        match self.remedy {
            Remedy::Redial | Remedy::Wait => Error::Away { reason: said },
            Remedy::MakeRoom => Error::Full { reason: said },
            Remedy::Allow | Remedy::Mend => anyhow::anyhow!(said).into(),
        }
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::Io => of_network(&error),
            ErrorKind::AuthenticationFailed => Self::new(
                Remedy::Allow,
                "refuses the user or the password; the URL has them, as in `redis://USER:PASSWORD@HOST:PORT/DB`",
            ),
            ErrorKind::Parse => Self::new(
                Remedy::Redial,
                "what answers there speaks no Redis; look at the host and the port, and write `rediss://` if it speaks TLS",
            ),
            ErrorKind::InvalidClientConfig => of_certificates(&error.to_string()),
            _ => {
                let detail = error.detail().unwrap_or_default();
                let (code, detail) = of_script(detail).unwrap_or((error.code().unwrap_or_default(), detail));
                of_answer(code, detail, &error)
            }
        }
    }
}

fn of_network(error: &RedisError) -> Fault {
    let said = error.to_string();
    let is_of_tls = ["certificate", "tls", "TLS", "corrupt message", "alert", "handshake"];
    if said.contains("failed to lookup address") || said.contains("No address found") {
        return Fault::new(Remedy::Redial, "there is no such host; look at its name in the URL, and at the DNS");
    }
    if is_of_tls.iter().any(|word| said.contains(word)) {
        return of_certificates(&said);
    }
    let reason = if error.is_timeout() {
        "does not answer".to_owned()
    } else if error.is_connection_refusal() {
        "nothing listens there".to_owned()
    } else if error.is_connection_dropped() {
        LOST.to_owned()
    } else {
        said
    };
    Fault::new(Remedy::Redial, reason)
}

fn of_certificates(said: &str) -> Fault {
    let has = |word: &str| said.contains(word);
    let reason = if has("UnknownIssuer") || has("BadSignature") || has("CaUsedAsEndEntity") {
        "has a certificate of somebody who is not trusted; name the file of who signed it as `redis.ca`".to_owned()
    } else if has("NotValidForName") || has("not valid for name") {
        "has a certificate for another name; write the URL with the host's name in the certificate".to_owned()
    } else if has("Expired") || has("expired") {
        "has a certificate that has expired".to_owned()
    } else if has("corrupt message") || has("InvalidContentType") {
        "speaks no TLS; write `redis://` for `rediss://`, or use the port that speaks it".to_owned()
    } else if has("CertificateRequired") || has("HandshakeFailure") {
        "wants a certificate that it trusts; name its file and its key as `redis.cert` and `redis.key`".to_owned()
    } else if has("UnknownCA") || has("DecryptError") {
        "does not trust our certificate; look at `redis.cert` and at the `tls-ca-cert-file` of Redis".to_owned()
    } else {
        format!("no TLS with it: {said}")
    };
    Fault::new(Remedy::Redial, reason)
}

// Redis 6 wraps the error of a command in a script: `Error running script (...): @user_script:1: ...: -OOM command ...`.
fn of_script(detail: &str) -> Option<(&str, &str)> {
    let (_, error) = detail.strip_prefix("Error running script")?.rsplit_once(": -")?;
    error.split_once(' ')
}

fn of_answer(code: &str, detail: &str, error: &RedisError) -> Fault {
    let wait = |reason: &str| Fault::new(Remedy::Wait, reason);
    let allow = |reason: &str| Fault::new(Remedy::Allow, reason);
    match code {
        "OOM" => Fault::new(Remedy::MakeRoom, "has no memory left; raise its `maxmemory`, or make room"),
        "READONLY" => {
            Fault::new(Remedy::Redial, "is a replica and takes no writes; name the primary, or use `sentinel://`")
        }
        // Waits are ended so when a primary becomes a replica.
        "UNBLOCKED" => Fault::new(Remedy::Redial, "is no primary any more"),
        "LOADING" => wait("reads its data from the disk"),
        "BUSY" => wait("is kept busy by a script of somebody; `SCRIPT KILL` ends it"),
        "MASTERDOWN" => wait("is a replica that has lost its primary"),
        "NOREPLICAS" => wait("takes no writes because too few replicas follow it (its `min-replicas-to-write`)"),
        "MISCONF" => wait("takes no writes because it cannot save to its disk; its log says why"),
        "TRYAGAIN" => wait("asks to be tried again"),
        "CLUSTERDOWN" | "MOVED" | "ASK" | "CROSSSLOT" => Fault::new(Remedy::Mend, CLUSTER),
        "NOAUTH" => allow(NO_PASSWORD),
        _ if detail.contains("Authentication required") => allow(NO_PASSWORD),
        _ if code == "NOPERM" || detail.contains("no permissions") => {
            let way_out = "it needs the keys and channels of Celery and of umbel, and nearly all commands";
            Fault::new(Remedy::Mend, format!("does not let our user do this ({detail}); {way_out}"))
        }
        _ if detail.contains("not allowed in cluster mode") => Fault::new(Remedy::Mend, CLUSTER),
        _ if detail.contains("DB index is out of range") => {
            // So says a cluster of Valkey, where a cluster of Redis says what it is.
            let way_out = "its `databases` says how many there are, and a Redis Cluster is of no use";
            Fault::new(Remedy::Mend, format!("has no database of that number; {way_out}"))
        }
        _ if detail.starts_with("unknown command") => Fault::new(
            Remedy::Mend,
            format!("does not know what is asked ({detail}); if it is a Sentinel, write `sentinel://`"),
        ),
        _ if detail.contains("max number of clients") => wait("has as many clients as its `maxclients` allows"),
        _ if error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError) => {
            Fault::new(Remedy::Mend, format!("refused: {detail}"))
        }
        _ => Fault::new(Remedy::Mend, format!("refused: {error}")),
    }
}

const NO_PASSWORD: &str = "wants a password; the URL has it, as in `redis://:PASSWORD@HOST:PORT/DB` (`USER:PASSWORD@` \
    where it knows users)";

/// Why a Redis Cluster is of no use, and what is.
pub const CLUSTER: &str = "is a Redis Cluster, where the keys of Celery would lie on different servers; use a Redis \
    that is no cluster, with Sentinels where it must fail over (`sentinel://`)";

/// The other end closed the connection, or something between did.
pub const LOST: &str = "the connection was lost";

/// Nothing came within `patience`.
pub fn silent(patience: Duration) -> Fault {
    Fault::new(Remedy::Redial, format!("did not answer within {} ms", patience.as_millis()))
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        RedisError::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: &str, detail: &str) -> Fault {
        redis::make_extension_error(code.to_owned(), Some(detail.to_owned())).into()
    }

    #[test]
    fn what_passes_is_away_or_full_and_the_rest_is_neither() {
        let at = |fault: Fault| fault.at("redis at `h:1`");
        let refused = answered("NOAUTH", "Authentication required.");
        assert!(matches!(at(refused.clone()), Error::Other(_)), "at start");
        assert!(matches!(refused.meanwhile("redis at `h:1`"), Error::Away { .. }), "later");

        assert!(matches!(at(answered("OOM", "")), Error::Full { .. }));
        for code in ["READONLY", "LOADING", "BUSY", "MASTERDOWN", "NOREPLICAS", "MISCONF", "UNBLOCKED"] {
            let fault = answered(code, "");
            assert!(fault.passes(), "{code}");
            assert!(matches!(at(fault), Error::Away { .. }), "{code}");
        }
        assert_eq!(answered("ERR", "Authentication required.").remedy, Remedy::Allow);
        for code in ["WRONGTYPE", "NOPERM", "MOVED", "ERR"] {
            let fault = answered(code, "what Redis says");
            assert!(!fault.passes(), "{code}");
            assert!(matches!(at(fault), Error::Other(_)), "{code}");
        }
        assert!(answered("ERR", "max number of clients reached").passes());
    }

    #[test]
    fn an_error_in_a_script_of_redis_6_is_that_of_its_command() {
        let script = "Error running script (call to f_3aab): @user_script:145: @user_script: 145: ";
        let said = |error: &str| answered("ERR", &format!("{script}{error}"));

        assert_eq!(said("-OOM command not allowed when used memory > 'maxmemory'.").remedy, Remedy::MakeRoom);
        assert!(said("-MISCONF Redis is configured to save RDB snapshots").passes());
        assert!(!said("Unknown Redis command called from script").passes());
    }

    #[test]
    fn a_broken_network_is_told_in_words() {
        for (error, said) in [
            (io::Error::from(io::ErrorKind::ConnectionRefused), "nothing listens there"),
            (io::Error::from(io::ErrorKind::BrokenPipe), "the connection was lost"),
            (io::Error::from(io::ErrorKind::TimedOut), "does not answer"),
            (io::Error::other("failed to lookup address information: Name or service not known"), "no such host"),
            (io::Error::other("invalid peer certificate: UnknownIssuer"), "`redis.ca`"),
            (io::Error::other("received corrupt message of type InvalidContentType"), "speaks no TLS"),
            (io::Error::other("received fatal alert: CertificateRequired"), "`redis.cert`"),
        ] {
            let fault = Fault::from(error);
            assert_eq!(fault.remedy, Remedy::Redial);
            assert!(fault.reason.contains(said), "{}", fault.reason);
        }
    }
}
