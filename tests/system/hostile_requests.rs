//! `tests/hostile/requests/`: bytes that nobody well-meaning sends, one file each, against one umbel.
//!
//! A file begins with what it tries (`#`) and with what may come of it (`!`): statuses, `closed` for a connection that
//! ends without an answer, `101/1009` for a WebSocket that ends with that code, `101/closed` for one that ends without
//! a close frame. `slow` are those that only a timeout ends. Then follow the bytes: line ends do not count, `\r \n \\`
//! and `\xHH` are bytes, `{{host}}` is where umbel listens, `{{length}}` how much follows the head, and
//! `{{repeat N …}}` so many times the same, in which it may occur again.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;

use crate::support::house::{House, PATIENCE, Plan};

struct Attack {
    name: String,
    may: Vec<String>,
    bytes: Vec<u8>,
}

impl Attack {
    fn read(path: &Path, host: &str) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let mut lines = text.lines().skip_while(|line| line.starts_with("# "));
        let may = lines.next().and_then(|line| line.strip_prefix("! ")).expect("a line of what may come of it");
        let rest: String = lines.collect();
        let head_end = r"\r\n\r\n";
        let length = rest.find(head_end).map_or(0, |end| bytes(&rest[end + head_end.len()..]).len());
        let rest = rest.replace("{{host}}", host).replace("{{length}}", &length.to_string());
        Self {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            may: may.split(' ').map(str::to_owned).collect(),
            bytes: bytes(&rest),
        }
    }

    fn is_slow(&self) -> bool {
        self.may.iter().any(|word| word == "slow")
    }

    /// Sends everything, whatever comes meanwhile, and tells what came of it.
    fn run(&self, host: &str) -> Result<(), String> {
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut sending = stream.try_clone().unwrap();
        let heard = std::thread::scope(|scope| {
            // A server that has heard enough takes no more.
            scope.spawn(move || sending.write_all(&self.bytes));
            let heard = hear(&mut stream);
            let _ = stream.shutdown(Shutdown::Both);
            heard
        });
        let came = heard.outcome();
        if heard.head().contains("evil") {
            return Err(format!("{}: the head of its answer echoes it: {}", self.name, heard.head()));
        }
        if self.may.contains(&came) { Ok(()) } else { Err(format!("{}: {came}, not {:?}", self.name, self.may)) }
    }
}

/// The bytes that `text` stands for.
fn bytes(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let bytes = expand(&mut rest, false);
    assert!(rest.is_empty(), "`}}}}` without its beginning in {text}");
    bytes
}

fn expand(rest: &mut &[u8], is_inner: bool) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((&byte, after)) = rest.split_first() {
        if is_inner && rest.starts_with(b"}}") {
            *rest = &rest[2..];
            return out;
        }
        if let Some(after) = rest.strip_prefix(b"{{repeat ") {
            let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let count: usize = std::str::from_utf8(&after[..digits]).unwrap().parse().unwrap();
            *rest = &after[digits + 1..];
            let part = expand(rest, true);
            out.extend(part.repeat(count));
            continue;
        }
        *rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (escape, after) = rest.split_first().expect("something after a backslash");
        *rest = after;
        out.push(match escape {
            b'r' => b'\r',
            b'n' => b'\n',
            b'\\' => b'\\',
            b'x' => {
                let hex = std::str::from_utf8(&rest[..2]).unwrap();
                *rest = &rest[2..];
                u8::from_str_radix(hex, 16).unwrap()
            }
            other => panic!("`\\{}` is no escape", char::from(*other)),
        });
    }
    assert!(!is_inner, "`{{{{repeat` without its end");
    out
}

/// What a server said until it had said enough.
struct Heard(Vec<u8>);

fn hear(stream: &mut TcpStream) -> Heard {
    let mut heard = Heard(Vec::new());
    let mut part = [0; 4096];
    while !heard.is_enough() {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(read) => heard.0.extend_from_slice(&part[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing came within {PATIENCE:?}"),
            Err(_) => break,
        }
    }
    heard
}

impl Heard {
    /// Where the head ends.
    fn body_at(&self) -> Option<usize> {
        self.0.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4)
    }

    fn head(&self) -> String {
        String::from_utf8_lossy(&self.0[..self.body_at().unwrap_or(0)]).to_lowercase()
    }

    fn status(&self) -> Option<String> {
        let head = self.head();
        head.starts_with("http/1.").then(|| head.split(' ').nth(1).unwrap_or_default().to_owned())
    }

    fn is_enough(&self) -> bool {
        match self.status().as_deref() {
            None => false,
            Some("101") => self.close_code().is_some(),
            Some(_) => true,
        }
    }

    /// The code of the close frame, if one came; 1005 stands for none in it, as in RFC 6455. A server's frames are not masked.
    fn close_code(&self) -> Option<u16> {
        let mut frames = &self.0[self.body_at()?..];
        loop {
            let (first, length) = (*frames.first()?, usize::from(*frames.get(1)?));
            let (from, length) = match length {
                126 => (4, usize::from(u16::from_be_bytes([*frames.get(2)?, *frames.get(3)?]))),
                127 => (10, usize::try_from(u64::from_be_bytes(frames.get(2..10)?.try_into().unwrap())).unwrap()),
                length => (2, length),
            };
            let payload = frames.get(from..from + length)?;
            if first == 0x88 {
                return Some(payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]])));
            }
            frames = &frames[from + length..];
        }
    }

    fn outcome(&self) -> String {
        match (self.status(), self.close_code()) {
            (None, _) => "closed".to_owned(),
            (Some(status), Some(code)) if status == "101" => format!("101/{code}"),
            (Some(status), None) if status == "101" => "101/closed".to_owned(),
            (Some(status), _) => status,
        }
    }
}

#[test]
fn hostile_requests_get_nowhere() {
    let house = Plan::new().shipped("tasks").shipped("plugins").start();
    let followed = serde_json::json!({ "args": [1, 2], "id": "followed", "countdown": "1h" });
    assert_eq!(house.post("/api/tasks/math.add", &followed).status, 202);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/requests");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let attacks: Vec<Attack> = paths.iter().map(|path| Attack::read(path, &house.address)).collect();
    assert!(attacks.len() >= 30, "only {} files", attacks.len());

    let mut wrong: Vec<String> = Vec::new();
    let (slow, quick): (Vec<&Attack>, Vec<&Attack>) = attacks.iter().partition(|attack| attack.is_slow());
    std::thread::scope(|scope| {
        let slow: Vec<_> = slow.iter().map(|attack| scope.spawn(|| attack.run(&house.address))).collect();
        for attack in quick {
            wrong.extend(attack.run(&house.address).err());
            assert_serves(&house, &attack.name);
        }
        wrong.extend(slow.into_iter().filter_map(|running| running.join().unwrap().err()));
    });

    assert_serves(&house, "the slow ones");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let told: Vec<String> = house.log_lines().into_iter().filter(|line| line.contains("panicked")).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
}

fn assert_serves(house: &House, after: &str) {
    let sum = house.post("/api/tasks/math.add?wait=30s", &serde_json::json!({ "args": [10, 3] }));

    assert_eq!((sum.status, &sum.json["result"]), (200, &serde_json::json!(13)), "after {after}: {}", sum.json);
}
