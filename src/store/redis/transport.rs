//! The bytes to and from Redis, and when some came last.
//!
//! A call waits for its answer as long as anything comes: what is slow is told from what is silent by this alone. So the
//! sockets are opened here and not by the client library, which would not say what it hears. Each step of connecting
//! has a patience of its own, because for a far server by TLS they add up.

use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::select_ok;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, ConnectionAddr, RedisConnectionInfo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::fault::{Fault, PATIENCE, Remedy, silent};

/// How long an answer may take that comes all the time.
const LONGEST: Duration = Duration::from_secs(60);

/// One server, and who we are to it.
#[derive(Clone)]
pub struct Server {
    pub address: ConnectionAddr,
    pub who: RedisConnectionInfo,
    /// How to speak TLS, where the address says that it is spoken.
    pub tls: Option<Arc<ClientConfig>>,
}

/// A connection, and when something came over it. It ends with its last clone, whatever is under way.
#[derive(Clone)]
pub struct Road {
    pub connection: MultiplexedConnection,
    heard: Arc<Heard>,
    _driver: Arc<AbortOnDropHandle<()>>,
}

impl Road {
    /// What comes of `call`; `None` once `patience` is over and nothing comes any more.
    pub async fn hear<T>(&self, patience: Duration, call: impl Future<Output = T>) -> Option<T> {
        let began = Instant::now();
        let (mut call, mut end) = (pin!(call), began + patience);
        loop {
            if let Ok(answer) = timeout_at(end, &mut call).await {
                return Some(answer);
            }
            end = (self.heard.last() + PATIENCE).min(began + LONGEST);
            if end <= Instant::now() {
                return None;
            }
        }
    }
}

impl Server {
    /// A connection for commands: nothing on it has a timeout, so its user needs one.
    pub async fn connect(&self) -> Result<Road, Fault> {
        let heard = Arc::new(Heard::new());
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let stream = self.stream(&heard).await?;
        let making = MultiplexedConnection::new_with_config(&self.who, stream, config);
        let (connection, driver) = within(making).await?;
        Ok(Road { connection, heard, _driver: Arc::new(AbortOnDropHandle::new(tokio::spawn(driver))) })
    }

    /// A connection for subscriptions.
    pub async fn listen(&self) -> Result<PubSub, Fault> {
        let stream = self.stream(&Arc::new(Heard::new())).await?;
        within(PubSub::new(&self.who, stream)).await
    }

    async fn stream(&self, heard: &Arc<Heard>) -> Result<Box<dyn Stream>, Fault> {
        let heard = heard.clone();
        Ok(match (&self.address, &self.tls) {
            (ConnectionAddr::Tcp(host, port), _) => Box::new(Watched { stream: tcp(host, *port).await?, heard }),
            (ConnectionAddr::TcpTls { host, port, .. }, Some(config)) => {
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let stream = Watched { stream: tcp(host, *port).await?, heard };
                Box::new(within(TlsConnector::from(config.clone()).connect(name, stream)).await?)
            }
            (ConnectionAddr::Unix(path), _) => Box::new(Watched { stream: unix(path).await?, heard }),
            (other, _) => return Err(Fault::new(Remedy::Mend, format!("there is no way to `{other}`"))),
        })
    }
}

async fn within<T, E: Into<Fault>>(step: impl Future<Output = Result<T, E>>) -> Result<T, Fault> {
    timeout(PATIENCE, step).await.map_err(|_| silent(PATIENCE))?.map_err(Into::into)
}

async fn unix(path: &Path) -> Result<UnixStream, Fault> {
    within(UnixStream::connect(path)).await
}

// To whichever of the host's addresses answers first.
async fn tcp(host: &str, port: u16) -> Result<TcpStream, Fault> {
    let addresses: Vec<_> = within(lookup_host((host, port))).await?.collect();
    if addresses.is_empty() {
        return Err(io::Error::other("No address found for host").into());
    }
    let tries = addresses.into_iter().map(|address| Box::pin(TcpStream::connect(address)));
    let (stream, _) = within(select_ok(tries)).await?;
    stream.set_nodelay(true)?;
    // What waits for an answer is asked for one by us, sooner than keepalive would; what was sent and not
    // acknowledged ends the connection of itself.
    #[cfg(target_os = "linux")]
    redis::io::tcp::socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// When something came last.
struct Heard {
    opened_at: Instant,
    /// Microseconds since then.
    last: AtomicU64,
}

impl Heard {
    fn new() -> Self {
        Self { opened_at: Instant::now(), last: AtomicU64::new(0) }
    }

    fn note(&self) {
        let since = u64::try_from(self.opened_at.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.opened_at + Duration::from_micros(self.last.load(Ordering::Relaxed))
    }
}

/// Notes when something comes. What is sent says nothing: a connection that leads nowhere takes it, too.
struct Watched<S> {
    stream: S,
    heard: Arc<Heard>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.heard.note();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
