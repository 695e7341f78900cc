//! The ways to a Redis: TLS, a socket, users and passwords; and what is told of one that leads nowhere.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use umbel::store::RedisSettings;

use super::*;
use crate::redis_server::free_port;

/// Certificates in a folder: `ca.pem`, `server.pem` for `localhost`, `client.pem`, and their keys as `….key`.
fn certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let save = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "who signs");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    save("ca.pem", params.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(params, key);
    for (name, host) in [("server", "localhost"), ("client", "umbel")] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, host);
        save(&format!("{name}.pem"), params.signed_by(&key, &issuer).unwrap().pem());
        save(&format!("{name}.key"), key.serialize_pem());
    }
    folder
}

struct Tls {
    _server: RedisServer,
    folder: tempfile::TempDir,
    port: u16,
}

impl Tls {
    fn start(of_clients: &str) -> Self {
        let (folder, port) = (certificates(), free_port());
        let file = |name: &str| folder.path().join(name).display().to_string();
        let _server = RedisServer::start_with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &file("server.pem"),
            "--tls-key-file",
            &file("server.key"),
            "--tls-ca-cert-file",
            &file("ca.pem"),
            "--tls-auth-clients",
            of_clients,
        ]);
        Self { _server, folder, port }
    }

    fn url(&self, host: &str) -> String {
        format!("rediss://{host}:{}/0", self.port)
    }

    async fn open(&self, host: &str, redis: RedisSettings) -> Result<Stores, String> {
        let settings = Settings { redis, ..Settings::default() };
        let opened = umbel::store::open(&self.url(host), self.folder.path(), settings).await;
        opened.map_err(|error| error.to_string())
    }
}

fn trusting(ca: &str) -> RedisSettings {
    RedisSettings { ca: ca.into(), ..RedisSettings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_is_reached_by_tls() {
    let tls = Tls::start("no");

    assert_whole(&tls.open("localhost", trusting("ca.pem")).await.unwrap(), "m1").await;

    for (host, redis, said) in [
        ("localhost", RedisSettings::default(), "not trusted; name the file of who signed it as `redis.ca`"),
        ("127.0.0.1", trusting("ca.pem"), "has a certificate for another name"),
        ("localhost", trusting("none.pem"), "`redis.ca`: cannot read `"),
        ("localhost", trusting("server.key"), "holds nothing of PEM that begins with `-----BEGIN CERTIFICATE-----`"),
    ] {
        let refused = tls.open(host, redis).await.err().unwrap();
        assert!(refused.contains(said), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_may_want_a_certificate_of_ours() {
    let tls = Tls::start("yes");
    let ours = RedisSettings { cert: "client.pem".into(), key: "client.key".into(), ..trusting("ca.pem") };

    assert_whole(&tls.open("localhost", ours).await.unwrap(), "m1").await;

    let refused = tls.open("localhost", trusting("ca.pem")).await.err().unwrap();
    assert!(refused.contains("name its file and its key as `redis.cert` and `redis.key`"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_no_tls_where_it_is_spoken_is_told_so() {
    let tls = Tls::start("no");
    let plain = RedisServer::start();

    let to_tls = refusal(&format!("redis://localhost:{}/0", tls.port), Settings::default()).await;
    let to_plain = refusal(&format!("rediss://localhost:{}/0", plain.port()), Settings::default()).await;

    assert!(to_tls.contains("write `rediss://` if it speaks TLS"), "{to_tls}");
    assert!(to_plain.contains("write `redis://`"), "{to_plain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_is_reached_by_its_socket() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock");
    let server = RedisServer::start_with(&["--unixsocket", socket.to_str().unwrap()]);
    let path = socket.display();
    for (n, url) in [
        format!("unix://{path}?db=1"),
        format!("redis+unix://{path}?db=2"),
        format!("redis+socket://{path}?virtual_host=3"),
    ]
    .iter()
    .enumerate()
    {
        let mut raw = raw(&server);
        let _: () = ::redis::cmd("SELECT").arg(n + 1).query(&mut raw).unwrap();

        assert_whole(&reach(url).await, "m1").await;

        assert!(raw.exists::<_, bool>("celery-task-meta-m1").unwrap(), "{url}");
    }
    drop(server);
    let refused = refusal(&format!("unix://{path}"), Settings::default()).await;
    assert!(refused.ends_with("redis.sock`: nothing listens there"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_knows_users() {
    let (server, _, mut raw) = open().await;
    let rule = "on >p@ss/word ~* &* +@all -@admin -@dangerous +info +client|unblock";
    let _: () =
        ::redis::cmd("ACL").arg("SETUSER").arg("ann").arg(rule.split(' ').collect::<Vec<_>>()).query(&mut raw).unwrap();
    let _: () = ::redis::cmd("ACL").arg("SETUSER").arg("bob").arg("on").arg(">pw").arg("~x").query(&mut raw).unwrap();
    let _: () = ::redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("tops3cret").query(&mut raw).unwrap();
    let of = |who: &str| format!("redis://{who}127.0.0.1:{}/1", server.port());

    assert_whole(&reach(&of("ann:p%40ss%2Fword@")).await, "m1").await;
    assert_whole(&reach(&of(":tops3cret@")).await, "m2").await;

    for (who, said) in [
        ("", "wants a password; the URL has it, as in `redis://:PASSWORD@HOST:PORT/DB`"),
        (":wr0ng@", "refuses the user or the password"),
        ("ann:wr0ng@", "refuses the user or the password"),
        ("bob:pw@", "does not let our user do this"),
    ] {
        let refused = refusal(&of(who), Settings::default()).await;
        assert!(refused.contains(said), "{refused}");
        assert!(refused.starts_with(&format!("redis at `127.0.0.1:{}`", server.port())), "{refused}");
        assert!(!refused.contains("wr0ng"), "{refused}");
    }
}

// Answers whatever it hears with `answer`, until it has heard enough.
fn somebody(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut heard = [0; 1024];
            while let Ok(1..) = stream.read(&mut heard) {
                if !answer.is_empty() && stream.write_all(answer).is_err() {
                    break;
                }
            }
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_about_a_url_is_told_in_words() {
    let server = RedisServer::start();
    let cluster = RedisServer::start_with(&["--cluster-enabled", "yes"]);
    let at = |port: u16, db: &str| format!("redis://127.0.0.1:{port}/{db}");
    let web = somebody(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    let silent = somebody(b"");
    for (url, said) in [
        ("redis://no-such-host.invalid/0".to_owned(), "there is no such host"),
        (at(free_port(), "0"), "nothing listens there"),
        (at(server.port(), "99"), "has no database of that number"),
        (at(web, "0"), "what answers there speaks no Redis"),
        (at(silent, "0"), "did not answer within 900 ms"),
        (at(cluster.port(), "0"), "is a Redis Cluster"),
        (at(cluster.port(), "1"), "a Redis Cluster"),
        ("redis+cluster://h".to_owned(), "names no store"),
    ] {
        let refused = refusal(&url, Settings::default()).await;
        assert!(refused.contains(said), "{url}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_looked_for_in_the_folder_of_the_project() {
    let tls = Tls::start("no");
    let inside = tls.folder.path().join("project");
    std::fs::create_dir(&inside).unwrap();
    let settings = Settings { redis: trusting("../ca.pem"), ..Settings::default() };

    let opened = umbel::store::open(&tls.url("localhost"), &inside, settings.clone()).await;
    let elsewhere = umbel::store::open(&tls.url("localhost"), Path::new("/"), settings).await;

    assert_whole(&opened.unwrap(), "m1").await;
    assert!(elsewhere.is_err());
}
