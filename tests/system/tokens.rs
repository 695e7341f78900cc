//! Tokens, as an operator makes them and programs show them.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::house::{House, Plan, umbel};

/// Makes a token, and appends its table to the settings of `folder`.
fn make(folder: &std::path::Path, name: &str, scope: &str) -> String {
    let made = umbel(folder).args(["token", name, "--scope", scope]).output().unwrap();
    assert!(made.status.success());
    let path = folder.join("umbel.toml");
    let settings = std::fs::read_to_string(&path).unwrap_or_default() + std::str::from_utf8(&made.stdout).unwrap();
    std::fs::write(&path, settings).unwrap();
    let told = String::from_utf8(made.stderr).unwrap();
    let secret = told.lines().find_map(|line| line.split(": ").nth(1)).unwrap().to_owned();
    assert!(secret.starts_with("umbel_") && !std::fs::read_to_string(path).unwrap().contains(&secret), "{told}");
    secret
}

fn ask(house: &House, token: Option<&str>, path: &str, body: Option<&Value>) -> u16 {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let token = token.map(|token| format!("Bearer {token}"));
    let answer = match body {
        Some(body) => {
            let request = agent.post(house.url(path));
            token
                .into_iter()
                .fold(request, |request, token| request.header("authorization", token))
                .send(body.to_string())
        }
        None => {
            let request = agent.get(house.url(path));
            token.into_iter().fold(request, |request, token| request.header("authorization", token)).call()
        }
    };
    answer.unwrap().status().as_u16()
}

#[test]
fn a_token_that_was_made_lets_in_who_shows_it() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let (send, read) = (make(folder.path(), "shop", "send"), make(folder.path(), "eye", "read"));
    let house = Plan::in_folder(folder.clone()).shipped("tasks/math.rhai").start();
    let sum = json!({ "args": [10, 3] });

    let local: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("data/umbel.lock")).unwrap()).unwrap();
    let local = local["token"].as_str();

    assert_eq!(ask(&house, None, "/healthz", None), 200);
    for (token, sends, sees, purges) in [
        (None, 401, 401, 401),
        (Some("wrong"), 401, 401, 401),
        (Some(send.as_str()), 200, 403, 403),
        (Some(read.as_str()), 403, 200, 403),
        (local, 200, 200, 200),
    ] {
        assert_eq!(ask(&house, token, "/api/tasks/math.add?wait=30s", Some(&sum)), sends, "{token:?}");
        assert_eq!(ask(&house, token, "/metrics", None), sees, "{token:?}");
        assert_eq!(ask(&house, token, "/api/queues/celery/purge", Some(&json!({}))), purges, "{token:?}");
    }
    let told: Vec<String> = house.log_lines().into_iter().filter(|line| line.contains("a token that is not")).collect();
    assert!(!told.is_empty() && told.iter().all(|line| line.contains("127.0.0.1")), "{told:?}");
    assert!(
        house.log_lines().iter().all(|line| !line.contains(&send) && !line.contains("wrong")),
        "tokens are not told"
    );
}
