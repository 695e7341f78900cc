//! A running umbel in a folder of its own: the real program, on a free port.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take that is waited for. Only a broken program needs it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A project folder that is being written.
pub struct Plan {
    folder: Arc<tempfile::TempDir>,
    start: Start,
}

/// How the program is started.
#[derive(Clone)]
struct Start {
    arguments: Vec<String>,
    store: Option<String>,
    settings: Vec<(String, String)>,
}

impl Default for Start {
    fn default() -> Self {
        let arguments = ["up", "--listen", "127.0.0.1:0"].map(str::to_owned).to_vec();
        Self { arguments, store: None, settings: Vec::new() }
    }
}

/// An umbel that runs in it.
pub struct House {
    pub folder: Arc<tempfile::TempDir>,
    /// Where it listens; empty when it does not.
    pub address: String,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    start: Start,
}

/// What HTTP answered.
pub struct Answer {
    pub status: u16,
    pub json: Value,
    pub headers: ureq::http::HeaderMap,
}

impl Plan {
    pub fn new() -> Self {
        Self::in_folder(Arc::new(tempfile::tempdir().unwrap()))
    }

    /// Where something will be in its folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// In the folder of one that ran before.
    pub fn in_folder(folder: Arc<tempfile::TempDir>) -> Self {
        Self { folder, start: Start::default() }
    }

    /// A script in `tasks/`.
    pub fn script(self, name: &str, source: &str) -> Self {
        self.file(&format!("tasks/{name}"), source)
    }

    pub fn file(self, path: &str, text: &str) -> Self {
        write(&self.folder.path().join(path), text);
        self
    }

    /// A copy of a file or folder of this repository.
    pub fn shipped(self, path: &str) -> Self {
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path), &self.folder.path().join(path));
        self
    }

    pub fn store(mut self, url: &str) -> Self {
        self.start.store = Some(url.to_owned());
        self
    }

    /// An environment variable of the program.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.start.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another command than `up`, with its flags.
    pub fn command(mut self, arguments: &[&str]) -> Self {
        self.start.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self
    }

    /// Starts umbel and waits until it serves.
    pub fn start(self) -> House {
        House::open(self.folder, self.start)
    }
}

/// The program, told to work in `folder`.
pub fn umbel(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_umbel"));
    command.arg("--dir").arg(folder);
    // The developer's own settings must not reach the tests.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("UMBEL_") || name == "RUST_LOG") {
        command.env_remove(name);
    }
    command
}

impl House {
    fn open(folder: Arc<tempfile::TempDir>, start: Start) -> Self {
        let mut command = umbel(folder.path());
        command.args(&start.arguments);
        if let Some(store) = &start.store {
            command.args(["--store", store]);
        }
        command.envs(start.settings.iter().cloned());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        follow(child.stdout.take().unwrap(), log.clone());
        follow(child.stderr.take().unwrap(), log.clone());
        let mut house = Self { folder, address: String::new(), child, log, start };
        house.address = house.wait_until_up();
        house
    }

    // Returns where it listens.
    fn wait_until_up(&mut self) -> String {
        let began = Instant::now();
        loop {
            if let Some(line) = self.log_lines().iter().find(|line| line.contains(", keeps tasks in `")) {
                return address_in(line).unwrap_or_default();
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("umbel ended with {status}:\n{}", self.log_lines().join("\n"));
            }
            assert!(began.elapsed() < PATIENCE, "umbel does not start:\n{}", self.log_lines().join("\n"));
            std::thread::yield_now();
        }
    }

    pub fn log_lines(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        write(&self.path(path), text);
    }

    pub fn get(&self, path: &str) -> Answer {
        answer(agent().get(self.url(path)).call())
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &body.to_string())
    }

    /// As `curl -d` sends it.
    pub fn post_text(&self, path: &str, body: &str) -> Answer {
        let request = agent().post(self.url(path)).header("content-type", "application/x-www-form-urlencoded");
        answer(request.send(body))
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Ends it without a word, as a power cut would, and leaves its folder.
    pub fn kill(mut self) -> Killed {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Killed { folder: self.folder.clone(), start: std::mem::take(&mut self.start) }
    }

    /// Sends the signal that asks it to stop, and waits for its end.
    pub fn stop(self) -> std::process::ExitStatus {
        self.signal("TERM");
        self.ends()
    }

    /// Waits for the end of one that was asked to stop.
    pub fn ends(mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the log of umbel ---\n{}", self.log_lines().join("\n"));
        }
    }
}

/// The folder of an umbel that was killed.
pub struct Killed {
    folder: Arc<tempfile::TempDir>,
    start: Start,
}

impl Killed {
    /// Another value of an environment variable for the next one.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.start.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts another one in the same folder.
    pub fn start_again(self) -> House {
        House::open(self.folder, self.start)
    }
}

/// Asks again and again until the answer is true.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        // Gives way to the program under test on a machine of two processors; nothing depends on how long this is.
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(2 * PATIENCE)).build().into()
}

fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = result.unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    Answer {
        status: response.status().as_u16(),
        json: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        headers: response.headers().clone(),
    }
}

// The start-up line says where it listens, where it does.
fn address_in(line: &str) -> Option<String> {
    let rest = line.split("http://127.0.0.1:").nth(1)?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(format!("127.0.0.1:{port}"))
}

fn follow(stream: impl std::io::Read + Send + 'static, log: Arc<Mutex<Vec<String>>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            log.lock().unwrap().push(line);
        }
    });
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    }
}
