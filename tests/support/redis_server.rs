//! A real redis-server for one test: on a free loopback port, in a folder of its own, gone with the value.
//!
//! `UMBEL_TEST_REDIS` names another program than `redis-server`, such as that of another version or a Valkey.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub struct RedisServer {
    child: Child,
    port: u16,
    folder: TempDir,
    durable: bool,
}

impl RedisServer {
    /// Starts a server and returns as soon as it accepts connections.
    pub fn start() -> Self {
        Self::start_as(false)
    }

    /// One that finds again what it had when it is started again: with an append-only file.
    pub fn durable() -> Self {
        Self::start_as(true)
    }

    fn start_as(durable: bool) -> Self {
        // Someone may take the free port before redis-server does; then it ends at once, and the next one is tried.
        (0..10).find_map(|_| Self::try_start(durable)).expect("redis-server starts; is it installed?")
    }

    fn try_start(durable: bool) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let folder = tempfile::tempdir().expect("a folder for redis-server");
        let child = spawn(port, folder.path(), durable);
        let mut server = Self { child, port, folder, durable };
        server.is_up().then_some(server)
    }

    fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return false;
            }
            if self.answers().unwrap_or(false) {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    // It is ours: the server of another test may have taken the port in between.
    fn answers(&self) -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"INFO server\r\n")?;
        let ours = format!("process_id:{}", self.child.id());
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        Ok(lines.find(|line| line.starts_with("process_id:")).is_some_and(|line| line == ours))
    }

    /// The server is gone at once, with everything in it unless it is durable.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again where it was: empty, or with what it had when it is durable.
    pub fn start_again(&mut self) {
        self.child = spawn(self.port, self.folder.path(), self.durable);
        assert!(self.is_up(), "redis-server starts again on port {}", self.port);
    }

    /// The server stands still: connections stay, nothing is answered. `CONT` lets it go on.
    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(done.expect("`kill` can be run").success());
    }

    /// Where it listens, as a store's URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }
}

fn spawn(port: u16, folder: &Path, durable: bool) -> Child {
    Command::new(std::env::var("UMBEL_TEST_REDIS").unwrap_or_else(|_| "redis-server".to_owned()))
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", if durable { "yes" } else { "no" }])
        .arg("--dir")
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("`redis-server` can be run; is it installed?")
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
