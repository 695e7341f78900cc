//! A real redis-server for one test: on a free loopback port, in a folder of its own, gone with the value.
//!
//! `UMBEL_TEST_REDIS` names another program than `redis-server`, such as that of another version or a Valkey.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub struct RedisServer {
    child: Child,
    port: u16,
    options: Vec<String>,
    folder: TempDir,
}

impl RedisServer {
    /// Starts a server that keeps nothing, and returns as soon as it accepts connections.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// What makes Redis find again whatever it acknowledged, even if it is killed. With `appendfsync everysec`, its
    /// default, it answers before it has written where an earlier fsync lasts.
    pub const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

    /// One that finds again what it had when it is started again.
    pub fn durable() -> Self {
        Self::start_with(&Self::DURABLE)
    }

    /// One that keeps nothing, with options of redis-server, as on its command line.
    pub fn start_with(options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        // Someone may take the free port before redis-server does; then it ends at once, and the next one is tried.
        (0..10).find_map(|_| Self::try_start(&options)).expect("redis-server starts; is it installed?")
    }

    /// A Sentinel that watches the server on `port` as `name` and is quick to give it up.
    pub fn sentinel(name: &str, port: u16) -> Self {
        let of_server = |what: &str| format!("sentinel {what} {name}");
        let options = [
            "--sentinel".to_owned(),
            format!("--{} 127.0.0.1 {port} 1", of_server("monitor")),
            format!("--{} 300", of_server("down-after-milliseconds")),
            format!("--{} 2000", of_server("failover-timeout")),
        ];
        Self::start_with(&options.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn try_start(options: &[String]) -> Option<Self> {
        let port = free_port();
        let folder = tempfile::tempdir().expect("a folder for redis-server");
        let child = spawn(port, folder.path(), options);
        let mut server = Self { child, port, options: options.to_vec(), folder };
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

    /// The server is gone at once, with everything that is not on its disk.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again where it was, with what is on its disk.
    pub fn start_again(&mut self) {
        self.child = spawn(self.port, self.folder.path(), &self.options);
        assert!(self.is_up(), "redis-server starts again on port {}", self.port);
    }

    /// The server stands still: connections stay, nothing is answered. `CONT` lets it go on.
    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(done.expect("`kill` can be run").success());
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A file in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where it listens, as a store's URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }
}

/// A port of the loopback interface on which nothing listens now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its number").port()
}

fn spawn(port: u16, folder: &Path, options: &[String]) -> Child {
    // Of other versions there are programs without TLS.
    let by_tls = options.iter().any(|option| option == "--tls-port");
    let other = std::env::var("UMBEL_TEST_REDIS").ok().filter(|_| !by_tls);
    let mut command = Command::new(other.as_deref().unwrap_or("redis-server"));
    // Sentinels write down what they learn.
    if options.iter().any(|option| option == "--sentinel") {
        let config = folder.join("sentinel.conf");
        let lines = options.iter().skip(1).map(|option| option.trim_start_matches("--").to_owned());
        let lines: Vec<String> =
            [format!("port {port}"), "bind 127.0.0.1".to_owned()].into_iter().chain(lines).collect();
        std::fs::write(&config, lines.join("\n")).expect("a file for the sentinel");
        command.arg(config).arg("--sentinel");
    } else {
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(folder).args(options);
    }
    command
        .current_dir(folder)
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
