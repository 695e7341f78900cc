//! Making connections: to the one server of the URL, or to whom the Sentinels call the primary now.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{ConnectionAddr, RedisConnectionInfo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::address::{Address, Host, Way};
use super::fault::{Fault, LOST, PATIENCE, Remedy, silent};
use super::transport::{Road, Server};
use crate::store::{RedisSettings, Secret};

/// What is known of one Redis, and how to reach it.
pub struct Dialer {
    address: Address,
    master: String,
    sentinel_password: Secret,
    /// How to speak TLS, where that is spoken.
    tls: Option<Arc<ClientConfig>>,
    place: String,
    /// What shows that Redis does what it is asked: a write, because what takes none may still answer.
    probe: redis::Cmd,
    /// It was reached once, so that it speaks what we speak.
    known: AtomicBool,
}

/// A connection that was just made.
pub struct Dialed {
    pub server: Server,
    pub road: Road,
    /// Why it is of no use yet: Redis answers, but does not do what it is asked.
    pub fault: Option<Fault>,
}

impl Dialer {
    /// `probe` is the name of a key that is written for a moment. Files are read now; they are relative to `folder`.
    ///
    /// # Errors
    /// Says what is wrong with the URL or the settings.
    pub fn new(url: &str, folder: &Path, settings: &RedisSettings, probe: &str) -> anyhow::Result<Self> {
        let address = Address::parse(url)?;
        if let Some((name, why)) = refusal(&address, settings) {
            anyhow::bail!("`redis.{name}` {why}");
        }
        let place = match &address.way {
            Way::Server { host, .. } => format!("redis at `{host}`"),
            Way::Socket(path) => format!("redis at `{}`", path.display()),
            Way::Sentinels(hosts) => {
                let hosts: Vec<String> = hosts.iter().map(|host| format!("`{host}`")).collect();
                format!("redis `{}` of the sentinels at {}", settings.master, hosts.join(", "))
            }
        };
        let mut command = redis::cmd("SET");
        command.arg(probe).arg(1).arg("PX").arg(1);
        Ok(Self {
            tls: is_by_tls(&address, settings).then(|| certificates(folder, settings)).transpose()?,
            address,
            master: settings.master.clone(),
            sentinel_password: settings.sentinel_password.clone(),
            place,
            probe: command,
            known: AtomicBool::new(false),
        })
    }

    /// Where this Redis is, for people.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Connects to the primary. What is none any more is told by its refusing to be written.
    pub async fn dial(&self) -> Result<Dialed, Fault> {
        let hosts = match &self.address.way {
            Way::Server { host, .. } => return self.try_at(self.tcp(host)).await,
            Way::Socket(path) => return self.try_at(ConnectionAddr::Unix(path.clone())).await,
            Way::Sentinels(hosts) => hosts,
        };
        let mut fault = Fault::new(Remedy::Redial, "no sentinel answers");
        let mut asked: FuturesUnordered<_> = hosts.iter().map(|host| self.ask_sentinel(host)).collect();
        // One that was cut off may still name the old primary, so the first answer is not always the best.
        while let Some(answer) = asked.next().await {
            let tried = match answer {
                Ok(primary) => self
                    .try_at(self.tcp(&primary))
                    .await
                    .map_err(|fault| Fault::new(fault.remedy, format!("the primary at `{primary}`: {}", fault.reason))),
                Err(fault) => Err(fault),
            };
            match tried {
                Ok(dialed) => return Ok(dialed),
                Err(new) => fault = new,
            }
        }
        Err(fault)
    }

    async fn try_at(&self, address: ConnectionAddr) -> Result<Dialed, Fault> {
        let server = self.server(address, self.who());
        let road = server.connect().await.map_err(|fault| self.hinted(fault))?;
        let fault = match self.probe(&road).await {
            Ok(()) => None,
            Err(fault) if matches!(fault.remedy, Remedy::Wait | Remedy::MakeRoom) => Some(fault),
            Err(fault) => return Err(self.hinted(fault)),
        };
        self.known.store(true, Ordering::Relaxed);
        Ok(Dialed { server, road, fault })
    }

    /// Whether Redis does what it is asked on this connection.
    pub async fn probe(&self, road: &Road) -> Result<(), Fault> {
        let mut connection = road.connection.clone();
        let asked = road.hear(PATIENCE, self.probe.query_async::<()>(&mut connection)).await;
        Ok(asked.ok_or_else(|| silent(PATIENCE))??)
    }

    /// The command of [`Self::probe`].
    pub fn probing(&self) -> &redis::Cmd {
        &self.probe
    }

    async fn ask_sentinel(&self, host: &Host) -> Result<Host, Fault> {
        let of_sentinel = |fault: Fault| match fault.remedy {
            Remedy::Allow => Fault::new(
                Remedy::Allow,
                format!("the sentinel at `{host}` refuses us; its password is `redis.sentinel_password`"),
            ),
            remedy => Fault::new(remedy, format!("the sentinel at `{host}`: {}", fault.reason)),
        };
        let mut who = RedisConnectionInfo::default();
        if !self.sentinel_password.is_empty() {
            who = who.set_password(self.sentinel_password.expose());
        }
        let road = self.server(self.tcp(host), who).connect().await.map_err(of_sentinel)?;
        let mut connection = road.connection.clone();
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        let answer = road.hear(PATIENCE, ask.query_async::<Option<(String, u16)>>(&mut connection)).await;
        let answer = answer.ok_or_else(|| of_sentinel(silent(PATIENCE)))?;
        match answer.map_err(|error| of_sentinel(error.into()))? {
            Some((name, port)) => Ok(Host { name, port }),
            None => Err(Fault::new(
                Remedy::Mend,
                format!(
                    "the sentinel at `{host}` knows no primary of that name; `redis.master` is what its `sentinel \
                     monitor` says"
                ),
            )),
        }
    }

    fn tcp(&self, Host { name, port }: &Host) -> ConnectionAddr {
        match self.tls.is_some() {
            true => ConnectionAddr::TcpTls { host: name.clone(), port: *port, insecure: false, tls_params: None },
            false => ConnectionAddr::Tcp(name.clone(), *port),
        }
    }

    fn who(&self) -> RedisConnectionInfo {
        let Address { user, password, db, .. } = &self.address;
        let mut who = RedisConnectionInfo::default().set_db(*db);
        if let Some(user) = user {
            who = who.set_username(user);
        }
        if let Some(password) = password {
            who = who.set_password(password.expose());
        }
        who
    }

    fn server(&self, address: ConnectionAddr, who: RedisConnectionInfo) -> Server {
        Server { address, who, tls: self.tls.clone() }
    }

    // Who speaks TLS to somebody who does not, or the other way round, is cut off or hears nothing.
    fn hinted(&self, fault: Fault) -> Fault {
        let over_network = !matches!(self.address.way, Way::Socket(_));
        if self.known.load(Ordering::Relaxed) || !over_network || fault.remedy != Remedy::Redial {
            return fault;
        }
        let other = if self.tls.is_some() {
            "write `redis://` if it speaks no TLS"
        } else {
            "write `rediss://` if it speaks TLS"
        };
        match fault {
            fault if fault.reason == LOST => {
                Fault::new(fault.remedy, format!("ends the connection at once; {other}, and look at its `maxclients`"))
            }
            fault if self.tls.is_some() && fault == silent(PATIENCE) => {
                Fault::new(fault.remedy, format!("takes the connection and says nothing; {other}"))
            }
            fault => fault,
        }
    }
}

/// A setting that does not go with `address`, and why.
pub fn refusal(address: &Address, settings: &RedisSettings) -> Option<(&'static str, &'static str)> {
    let is = |file: &Path| !file.as_os_str().is_empty();
    let by_sentinels = matches!(address.way, Way::Sentinels(_));
    let by_tls = is_by_tls(address, settings);
    let wrong = [
        (
            by_sentinels && settings.master.is_empty(),
            "master",
            "is not set: Sentinels know Redis by a name; write the one of their `sentinel monitor`",
        ),
        (!by_sentinels && !settings.master.is_empty(), "master", "is only for a store `sentinel://…`; leave it out"),
        (
            !by_sentinels && !settings.sentinel_password.is_empty(),
            "sentinel_password",
            "is only for a store `sentinel://…`; leave it out",
        ),
        (is(&settings.ca) && !by_tls, "ca", "is only for a store that is reached by TLS: write `rediss://…`"),
        (is(&settings.cert) && !by_tls, "cert", "is only for a store that is reached by TLS: write `rediss://…`"),
        (is(&settings.cert) && !is(&settings.key), "key", "is not set: a certificate is shown with its private key"),
        (is(&settings.key) && !is(&settings.cert), "cert", "is not set: a private key goes with its certificate"),
    ];
    wrong.into_iter().find_map(|(is_wrong, name, why)| is_wrong.then_some((name, why)))
}

fn is_by_tls(address: &Address, settings: &RedisSettings) -> bool {
    match &address.way {
        Way::Server { tls, .. } => *tls,
        Way::Socket(_) => false,
        Way::Sentinels(_) => !settings.ca.as_os_str().is_empty(),
    }
}

fn certificates(folder: &Path, settings: &RedisSettings) -> anyhow::Result<Arc<ClientConfig>> {
    let read = |name: &str, file: &Path, begin: &str| {
        if file.as_os_str().is_empty() {
            return anyhow::Ok(None);
        }
        let file = folder.join(file);
        let text = std::fs::read(&file).with_context(|| format!("`redis.{name}`: cannot read `{}`", file.display()))?;
        let has = text.windows(begin.len()).any(|part| part == begin.as_bytes());
        ensure!(has, "`redis.{name}`: `{}` holds nothing of PEM that begins with `{begin}`", file.display());
        Ok(Some(text))
    };
    let mut trusted = RootCertStore::empty();
    match read("ca", &settings.ca, "-----BEGIN CERTIFICATE-----")? {
        Some(text) => {
            for certificate in CertificateDer::pem_slice_iter(&text) {
                trusted.add(certificate.context("`redis.ca`")?).context("`redis.ca`")?;
            }
        }
        None => {
            let of_system = rustls_native_certs::load_native_certs();
            trusted.add_parsable_certificates(of_system.certs);
            if let (true, Some(error)) = (trusted.is_empty(), of_system.errors.into_iter().next()) {
                return Err(error)
                    .context("cannot read the certificates that the system trusts; `redis.ca` names others");
            }
        }
    }
    let config = ClientConfig::builder().with_root_certificates(trusted);
    let cert = read("cert", &settings.cert, "-----BEGIN CERTIFICATE-----")?;
    let key = read("key", &settings.key, "-----BEGIN ")?;
    let Some((cert, key)) = cert.zip(key) else { return Ok(Arc::new(config.with_no_client_auth())) };
    let chain = CertificateDer::pem_slice_iter(&cert).collect::<Result<_, _>>().context("`redis.cert`")?;
    let key = PrivateKeyDer::from_pem_slice(&key).context("`redis.key`")?;
    Ok(Arc::new(config.with_client_auth_cert(chain, key).context("`redis.cert` and `redis.key`")?))
}

/// Whether anything is wrong with `url` or, for it, with `settings`, without reaching anything.
pub fn check(url: &str, settings: &RedisSettings) -> Option<(&'static str, &'static str)> {
    // A URL that is none is refused where it is read.
    Address::parse(url).ok().and_then(|address| refusal(&address, settings))
}
