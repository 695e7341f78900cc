use super::*;

const HASH: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn layers(file: &str, variables: &[(&str, &str)], flags: &Flags) -> Result<Layers, Vec<Broken>> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Layers::merge(file.to_owned(), variables, flags)
}

fn load(file: &str, variables: &[(&str, &str)], flags: &Flags) -> Result<Settings, Vec<Broken>> {
    layers(file, variables, flags).and_then(|layers| layers.settings())
}

fn settings(file: &str, variables: &[(&str, &str)]) -> Settings {
    load(file, variables, &Flags::default()).unwrap()
}

/// What is told of a file, a line each.
fn refusals(file: &str) -> String {
    told(load(file, &[], &Flags::default()))
}

fn told(refused: Result<Settings, Vec<Broken>>) -> String {
    refused.unwrap_err().iter().map(Broken::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_folder_without_a_file_has_the_defaults() {
    let folder = tempfile::tempdir().unwrap();

    let settings = Settings::load(folder.path(), &Flags::default()).unwrap();

    assert_eq!(settings, Settings { folder: folder.path().to_owned(), ..Settings::default() });
    assert!(settings.slots >= 8);
    let refused = Settings::load(&folder.path().join("no"), &Flags::default()).unwrap_err();
    assert!(refused.message.contains("there is no such folder"));
}

#[test]
fn the_later_layer_counts() {
    let file = "store = \"sqlite:a.db\"\nlisten = \"127.0.0.1:1\"\nslots = 1\ngrace = \"1m\"\nkeep = 90\n\
                [limits]\nmemory = \"1GiB\"\ntime_limit = 30";
    let variables = [
        ("UMBEL_STORE", "sqlite:b.db"),
        ("UMBEL_LISTEN", "localhost:2"),
        ("UMBEL_SLOTS", "2"),
        ("UMBEL_LIMITS__MEMORY", "64MiB"),
    ];
    let flags = Flags { store: Some("memory:".into()), listen: None };

    let settings = load(file, &variables, &flags).unwrap();

    assert_eq!(settings.store, "memory:");
    assert_eq!(settings.listen.to_string(), "127.0.0.1:2");
    assert_eq!(settings.slots, 2);
    assert_eq!((settings.grace, settings.keep), (Duration::from_secs(60), Duration::from_secs(90)));
    assert_eq!(settings.limits.memory, bytesize::ByteSize::mib(64));
    assert_eq!(settings.limits.time_limit, Duration::from_secs(30));
}

#[test]
fn a_variable_is_read_as_what_the_setting_is() {
    let tokens = format!("[{{ name = \"ci\", hash = \"{HASH}\", scopes = [\"send\"] }}]");
    let settings = settings(
        "",
        &[
            ("UMBEL_HOSTS", "A.example, b.example"),
            ("UMBEL_QUEUES", "[io]"),
            ("UMBEL_GRACE", "3"),
            ("UMBEL_LIMITS__MEMORY", "2097152"),
            ("UMBEL_DURABILITY", "fast"),
            ("UMBEL_TOKENS", &tokens),
            ("UMBEL_ROUTES", "{ \"a.*\" = { queue = \"12345\" } }"),
        ],
    );

    assert_eq!(settings.hosts, ["a.example", "b.example"]);
    assert_eq!(settings.queues, [QueueName::parse("io").unwrap()]);
    assert_eq!(settings.grace, Duration::from_secs(3));
    assert_eq!(settings.limits.memory, bytesize::ByteSize::mib(2));
    assert_eq!(settings.durability, Durability::Fast);
    assert_eq!(settings.tokens[0].name, "ci");
    assert_eq!(settings.routes.of("a.b").unwrap().queue.as_str(), "12345");
}

#[test]
fn digits_are_text_where_text_is_wanted() {
    assert_eq!(settings("", &[("UMBEL_QUEUES", "1,[2]")]).queues.len(), 2);
    let refused = told(load("", &[("UMBEL_STORE", "12345")], &Flags::default()));
    assert!(refused.starts_with("UMBEL_STORE: store: `12345` names no store"), "{refused}");
}

#[test]
fn a_stray_variable_stops_nothing() {
    for name in ["UMBEL_SERVICE_HOST", "UMBEL_HOME", "UMBEL_", "UMBEL_LIMITS_MEMORY", "UMBEL_LIMITS__STACK", "PATH"] {
        assert_eq!(settings("", &[(name, "10.0.0.1")]), Settings::default());
    }
}

#[test]
fn a_stray_variable_is_told_with_the_nearest_name() {
    for (name, near) in [
        ("UMBEL_STROE", "did you mean `UMBEL_STORE`?"),
        ("UMBEL_LIMITS_MEMORY", "did you mean `UMBEL_LIMITS__MEMORY`?"),
        ("UMBEL_SERVICE_HOST", "there are `UMBEL_STORE`, "),
    ] {
        let Err(known::BadVariable::Unknown(told)) = known::read_variable(name, "1") else { panic!("{name}") };
        assert!(told.starts_with(&format!("`{name}` is not a setting; ")) && told.contains(near), "{told}");
    }
    for name in ["UMBEL_SERVER", "UMBEL_TOKEN", "HOME"] {
        assert!(matches!(known::read_variable(name, "1"), Ok(None)), "{name}");
    }
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_nearest_name() {
    let refused = load("slots = 4\n\nstroe = \"x\"\n", &[], &Flags::default()).unwrap_err().remove(0);

    assert_eq!(refused.to_string(), "umbel.toml:3:1: `stroe` is not a setting; did you mean `store`?");
    assert_eq!(refused.excerpt.as_deref(), Some("stroe = \"x\"\n^"));
    for (file, told) in [
        ("whatever = 1", "umbel.toml:1:1: `whatever` is not a setting; there are `store`, "),
        ("[limit]\nmemory = 1", "umbel.toml:1:2: `limit` is not a setting; did you mean `limits`?"),
        ("[limits]\nmemery = 1", "umbel.toml:2:1: `memery` is not a setting of `limits`; did you mean `memory`?"),
        ("limits = { memery = 1 }", "umbel.toml:1:12: `memery` is not a setting of `limits`"),
        ("[limits]\nslots = 4", "umbel.toml:2:1: `slots` is no setting of `limits`: write it above the first table"),
        ("[[tokens]]\nnam = 1", "umbel.toml:2:1: `nam` is not a setting of `tokens[0]`; did you mean `name`"),
        (
            "[routes]\n\"a.*\" = { queu = \"q\" }",
            "umbel.toml:2:11: `queu` is not a setting of `routes.\"a.*\"`; did you mean `queue`?",
        ),
        ("[plugins.slack]\nchannel = 1", "umbel.toml:1:2: `[plugins]` is not built yet"),
        ("[permissions]\nhttp = []", "umbel.toml:1:2: `[permissions]` is not built yet"),
    ] {
        assert!(refusals(file).contains(told), "{file}: {}", refusals(file));
    }
}

#[test]
fn a_wrong_value_is_told_with_its_line() {
    for (file, told) in [
        ("slots = 4\ngrace = \"soon\"", "umbel.toml:2:9: grace: `soon` is not a duration"),
        ("slots = \"many\"", "umbel.toml:1:9: slots: `many` is not a whole number"),
        ("slots = 0", "umbel.toml:1:9: slots: `0` is not a number of slots"),
        ("keep = -1", "umbel.toml:1:8: keep: `-1` is not a duration"),
        ("hosts = [\"https://a.example\"]", "`https://a.example` is not a host name"),
        ("hosts = \"a\"", "umbel.toml:1:9: hosts: `a` is not a list"),
        ("queues = [\"a\",\n  \"\"]", "umbel.toml:2:3: queues[1]: is empty"),
        ("durability = \"ful\"", "umbel.toml:1:14: durability: `ful` is not known here; did you mean `full`?"),
        ("limits = 3", "umbel.toml:1:10: limits: `3` is not a table"),
        ("[limits]\nmemory = \"lots\"", "umbel.toml:2:10: limits.memory: `lots` is not a size, as in `128MiB`"),
        ("[limits]\nmemory = \"1kB\"", "umbel.toml:2:10: limits.memory: `1000B` is too little"),
        ("[limits]\nmemory = \"16GiB\"", "umbel.toml:2:10: limits.memory: `16GiB` is more than `4GiB`"),
        ("[limits]\ntime_limit = 0", "umbel.toml:2:14: limits.time_limit: no task runs in no time"),
        ("[limits]\noperations = 0", "umbel.toml:2:14: limits.operations: no task runs in no operations"),
        ("[limits]\nsoft_time_limit = 0", "umbel.toml:2:19: limits.soft_time_limit: every task would be told at once"),
        (
            "[limits]\nsoft_time_limit = \"10m\"",
            "umbel.toml:2:19: limits.soft_time_limit: `10m` does not come before `limits.time_limit`, which is `10m`",
        ),
        ("[routes]\n\"a b\" = { queue = \"q\" }", "umbel.toml:2:9: routes.\"a b\": `a b` is no pattern"),
        ("[routes]\na = { remote = true }", "umbel.toml:2:5: `queue` is missing in `routes.a`"),
        ("[[tokens]]\nname = \"a\"", "umbel.toml:1:1: `hash` is missing in `tokens[0]`"),
        ("store = \"redis://h/x\"", "umbel.toml:1:9: store: `redis://h/x` has the database `x`: write its number"),
        ("store = \"sentinel://h/0\"", "umbel.toml: redis.master: is not set: Sentinels know Redis by a name"),
        (
            "store = \"redis://h\"\n[redis]\nmaster = \"m\"",
            "umbel.toml:3:10: redis.master: is only for a store `sentinel://…`",
        ),
        (
            "store = \"redis://h\"\nredis.ca = \"ca.pem\"",
            "umbel.toml:2:12: redis.ca: is only for a store that is reached",
        ),
        ("store = \"rediss://h\"\nredis.cert = \"c.pem\"", "redis.key: is not set: a certificate is shown with its"),
        ("slots = [", "umbel.toml:1:"),
        ("slots = 1\nslots = 2", "umbel.toml:2:"),
    ] {
        assert!(refusals(file).contains(told), "{file}: {}", refusals(file));
    }
}

#[test]
fn every_mistake_of_the_file_is_told_in_its_order() {
    let file = "slots = 0\nstroe = 1\nkeep = \"long\"\n[limits]\nmemory = true\nstack = 1\n[permissions]\nhttp = []";

    let refused = refusals(file);

    let lines: Vec<&str> = refused.lines().map(|line| line.split(": ").next().unwrap()).collect();
    let places = ["1:9", "2:1", "3:8", "5:10", "6:1", "7:2"].map(|place| format!("umbel.toml:{place}"));
    assert_eq!(lines, places, "{refused}");
}

#[test]
fn a_wrong_value_is_not_told_as_a_missing_one() {
    for (file, told) in [
        ("[routes]\n\"a.*\" = { queue = 3 }", "umbel.toml:2:19: routes.\"a.*\".queue: `3` is not a text in quotes"),
        ("[routes]\n\"a.*\" = { queue = \"\" }", "umbel.toml:2:19: routes.\"a.*\".queue: is empty"),
        (
            "[routes.a]\nqueue = 3\nzzz = 1",
            "umbel.toml:2:9: routes.a.queue: `3` is not a text in quotes\n\
          umbel.toml:3:1: `zzz` is not a setting of `routes.a`; there are `queue`, `remote`",
        ),
        (
            "routes.a = { queue = 3 }\nroutes.b = { }",
            "umbel.toml:1:22: routes.a.queue: `3` is not a text in quotes\n\
          umbel.toml:2:12: `queue` is missing in `routes.b`",
        ),
    ] {
        assert_eq!(refusals(file), told, "{file}");
    }
}

#[test]
fn a_wrong_variable_or_flag_is_named() {
    let variable = |name, value| told(load("slots = 3", &[(name, value)], &Flags::default()));
    for (name, value, expected) in [
        ("UMBEL_SLOTS", "many", "UMBEL_SLOTS: slots: `many` is not a whole number"),
        ("UMBEL_LIMITS__MEMORY", "lots", "UMBEL_LIMITS__MEMORY: limits.memory: `lots` is not a size"),
        ("UMBEL_TOKENS", "[{", "UMBEL_TOKENS: is read as in the file, and "),
        ("UMBEL_TOKENS", "[{ name = \"a\" }]", "UMBEL_TOKENS: `hash` is missing in `tokens[0]`"),
        ("UMBEL_LISTEN", "0.0.0.0:80", "UMBEL_LISTEN: listen: `0.0.0.0:80` is no loopback address"),
    ] {
        assert!(variable(name, value).starts_with(expected), "{}", variable(name, value));
    }

    let flags = Flags { listen: Some("8080".into()), ..Flags::default() };
    let refused = told(load("", &[], &flags));
    assert!(refused.starts_with("--listen: listen: `8080` is not an address"), "{refused}");
}

#[test]
fn other_machines_are_listened_to_only_with_a_token() {
    let token = format!("\n[[tokens]]\nname = \"a\"\nhash = \"{HASH}\"\nscopes = [\"send\"]");
    for address in ["0.0.0.0:8080", "192.168.1.2:80", "[::]:8080"] {
        let file = format!("slots = 1\nlisten = \"{address}\"");
        let refused = refusals(&file);
        assert!(
            refused.starts_with(&format!("umbel.toml:2:10: listen: `{address}` is no loopback address")),
            "{refused}"
        );
        assert!(refused.contains("`[[tokens]]`") && refused.contains("`hosts`"), "{refused}");
        assert!(load(&format!("{file}{token}"), &[], &Flags::default()).is_ok(), "{address}");
    }
    for address in ["127.0.0.2:0", "[::1]:8080", "localhost:8080"] {
        assert!(load(&format!("listen = \"{address}\""), &[], &Flags::default()).is_ok(), "{address}");
    }
}

#[test]
fn tokens_that_are_none_are_refused_without_repeating_them() {
    let token = |name: &str, hash: &str, scopes: &str| {
        format!("[[tokens]]\nname = \"{name}\"\nhash = \"{hash}\"\nscopes = [{scopes}]\n")
    };
    let good = token("a", HASH, "\"send\", \"read\"");

    for (bad, told) in [
        (token("b", "tops3cret", "\"send\""), "umbel.toml:7:8: tokens[1].hash: is no hash of a token"),
        (token("b", "sha256:tops3cret", "\"send\""), "umbel.toml:7:8: tokens[1].hash: "),
        (token("b", &HASH.replace('9', "x"), "\"send\""), "umbel.toml:7:8: tokens[1].hash: "),
        (token("a", HASH, "\"send\""), "umbel.toml:6:8: tokens[1].name: there are two tokens of the name `a`"),
        (token(" ", HASH, "\"send\""), "umbel.toml:6:8: tokens[1].name: is empty"),
        (token("b", HASH, ""), "umbel.toml:8:10: tokens[1].scopes: are none"),
        (
            token("b", HASH, "\"send\", \"reed\""),
            "umbel.toml:8:19: tokens[1].scopes[1]: `reed` is not known here; did you mean `read`?",
        ),
    ] {
        let refused = load(&format!("{good}{bad}"), &[], &Flags::default()).unwrap_err();
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].to_string().starts_with(told), "{}", refused[0]);
        assert!(!format!("{refused:?}").contains("tops3cret"), "{refused:?}");
    }
}

#[test]
fn a_remote_task_needs_a_store_that_others_reach() {
    let file = "[routes]\n\"math.*\" = { queue = \"m\" }\n\"reports.*\" = { queue = \"python\", remote = true }";
    let refused = refusals(file);

    assert!(
        refused.starts_with("umbel.toml:3:44: routes.\"reports.*\".remote: a remote task could never run"),
        "{refused}"
    );
    let redis = Flags { store: Some("redis://localhost/0".into()), listen: None };
    assert!(load(file, &[], &redis).unwrap().routes.of("reports.x").unwrap().remote);
}

#[test]
fn a_remote_task_needs_a_queue_that_is_not_served_here() {
    for (queue, rest) in [("celery", ""), ("io", "queues = [\"io\"]"), ("m", "routes.\"math.*\" = { queue = \"m\" }")] {
        let file = format!("store = \"redis://h\"\nroutes.\"r.*\" = {{ queue = \"{queue}\", remote = true }}\n{rest}");
        let refused = refusals(&file);
        let told = format!("umbel.toml:2:26: routes.\"r.*\".queue: umbel serves `{queue}` itself");
        assert!(refused.starts_with(&told), "{refused}");
    }
}

#[test]
fn a_file_that_is_not_there_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), "store = \"rediss://h\"\n\n[redis]\nca = \"certs/ca.pem\"").unwrap();

    let refused = told(Settings::check(folder.path(), &Flags::default()));
    std::fs::create_dir(folder.path().join("certs")).unwrap();
    std::fs::write(folder.path().join("certs/ca.pem"), "").unwrap();

    assert_eq!(refused, "umbel.toml:4:6: redis.ca: there is no file `certs/ca.pem` in the project's folder");
    assert!(Settings::check(folder.path(), &Flags::default()).is_ok());
}

#[test]
fn the_password_of_the_sentinels_is_not_shown() {
    let file = "store = \"sentinel://h\"\n[redis]\nmaster = \"m\"\nsentinel_password = \"tops3cret\"";

    let rows = rows(file, &[], &Flags::default());

    let row = rows.iter().find(|row| row.name == "redis.sentinel_password").unwrap();
    assert_eq!((row.value.as_str(), &row.origin), (Some("…"), &Origin::File(4)));
    assert!(!format!("{:?}", load(file, &[], &Flags::default()).unwrap()).contains("tops3cret"));
}

#[test]
fn a_password_is_in_no_message() {
    for file in [
        "store = \"redi://ann:tops3cret@host\"",
        "store = \"redis://:tops3cret@host/0",
        "x = \"redis://a:tops3cret@h\"",
    ] {
        let refused = load(file, &[], &Flags::default()).unwrap_err();
        assert!(!format!("{refused:?}").contains("tops3cret"), "{refused:?}");
    }
}

fn rows(file: &str, variables: &[(&str, &str)], flags: &Flags) -> Vec<Shown> {
    let layers = layers(file, variables, flags).unwrap();
    shown::shown(&layers.settings().unwrap(), &layers)
}

#[test]
fn each_setting_is_shown_with_where_it_came_from_and_without_its_secrets() {
    let file = format!(
        "store = \"redis://:tops3cret@host/0\"\nkeep = 90\n\n[limits]\nmemory = \"64MiB\"\n\n[routes]\n\
         \"reports.*\" = {{ queue = \"python\", remote = true }}\n\n[[tokens]]\nname = \"a\"\nhash = \"{HASH}\"\n\
         scopes = [\"send\"]\n"
    );
    let flags = Flags { listen: Some("localhost:1".into()), ..Flags::default() };

    let rows = rows(&file, &[("UMBEL_SLOTS", "3"), ("UMBEL_LIMITS__TIME_LIMIT", "30s")], &flags);

    let shown: Vec<String> =
        rows.iter().map(|row| format!("{} = {} # {}", row.name, text_of(&row.value), row.origin)).collect();
    assert_eq!(
        shown,
        [
            "store = \"redis://…@host/0\" # umbel.toml:1",
            "durability = \"full\" # default",
            "listen = \"127.0.0.1:1\" # --listen",
            "hosts = [] # default",
            "slots = 3 # UMBEL_SLOTS",
            "queues = [] # default",
            "redis.prefix = \"\" # default",
            "redis.master = \"\" # default",
            "redis.sentinel_password = \"\" # default",
            "redis.ca = \"\" # default",
            "redis.cert = \"\" # default",
            "redis.key = \"\" # default",
            "grace = \"25s\" # default",
            "keep = \"90s\" # umbel.toml:2",
            "history = 100000 # default",
            "history_keep = \"30d\" # default",
            "limits.time_limit = \"30s\" # UMBEL_LIMITS__TIME_LIMIT",
            "limits.soft_time_limit = null # default",
            "limits.memory = \"64MiB\" # umbel.toml:5",
            "limits.operations = null # default",
            "tokens[0] = { name = \"a\", hash = \"sha256:…\", scopes = [\"send\"] } # umbel.toml:10",
            "routes.\"reports.*\" = { queue = \"python\", remote = true } # umbel.toml:8",
        ]
    );
}

#[test]
fn a_limit_that_is_set_says_nothing_of_where_the_others_came_from() {
    for (file, variables, origin) in [
        ("[limits]\nmemory = \"64MiB\"", &[][..], "umbel.toml:2"),
        ("", &[("UMBEL_LIMITS__MEMORY", "64MiB")][..], "UMBEL_LIMITS__MEMORY"),
    ] {
        let rows = rows(file, variables, &Flags::default());

        let from = |name: &str| rows.iter().find(|row| row.name == name).unwrap().origin.to_string();
        assert_eq!((from("limits.memory").as_str(), from("limits.time_limit").as_str()), (origin, "default"));
    }
}

#[test]
fn what_is_shown_is_read_as_the_same_again() {
    let shown: String = rows("", &[], &Flags::default())
        .iter()
        .filter(|row| !row.value.is_null())
        .map(|row| format!("{} = {}\n", row.name, text_of(&row.value)))
        .collect();

    assert_eq!(settings(&shown, &[]), settings("", &[]));
}

proptest::proptest! {
    #[test]
    fn no_file_makes_it_fail(
        lines in proptest::collection::vec(
            proptest::prop_oneof![
                "(store|slots|keep|hosts|limits|tokens|routes|x)(\\.[a-z\"*]{1,4})? = (1|true|\"[a-z:/@]{0,9}\"|\\[\\]|\\{ a = 1 \\}|1979-05-27)",
                "\\[{1,2}(limits|tokens|routes|routes\\.a|plugins)\\]{1,2}",
                "\\PC{0,20}",
            ],
            0..6,
        ),
    ) {
        let _ = load(&lines.join("\n"), &[], &Flags::default());
    }
}
