//! How sockets end, and that `disconnect` runs then.

use super::*;

#[tokio::test]
async fn a_client_whose_frames_always_fail_is_closed() {
    let mut house = House::open().await;
    let mut peer = house.client_of(ECHO).await;

    for _ in 1..FAILURES_IN_A_ROW {
        peer.says(asks("fail"));
    }
    peer.says_text("{}");
    for _ in 0..FAILURES_IN_A_ROW {
        peer.says(asks("fail"));
    }

    assert_eq!(peer.hears_text().await, r#"{"turns":20}"#);
    assert_eq!(peer.hears_close().await, code::SCRIPT_ERRORS);
    assert_eq!(house.noted().await, "closed 1011");
}

#[tokio::test]
async fn disconnect_runs_once_with_the_code_of_the_end() {
    for (ending, expected) in [
        (Some(Incoming::Closed(Some(1000))), "closed 1000"),
        (Some(Incoming::Closed(None)), "closed 1005"),
        (None, "closed 1006"),
        (Some(Incoming::TooBig), "closed 1009"),
        (Some(asks("close")), "closed 4321"),
    ] {
        let mut house = House::open().await;
        let mut peer = Some(house.client_of(ECHO).await);

        match ending {
            Some(frame) => peer.iter().for_each(|peer| peer.says(frame.clone())),
            None => peer = None,
        }

        assert_eq!(house.noted().await, expected);
        drop(peer);
        assert!(house.noted_to_the_end().await.is_empty());
    }
}

#[tokio::test]
async fn disconnect_runs_for_every_socket_that_was_accepted() {
    let house = House::open().await;
    let ends = "fn disconnect(scope, code) { note(\"closed \" + code); }";

    drop(house.connect(&format!("fn connect(scope) {{ accept(); }} {ends}")).await.unwrap());
    house.connect(&format!("fn connect(scope) {{ accept(); throw 1; }} {ends}")).await.err().unwrap();
    house.connect(&format!("fn connect(scope) {{ }} {ends}")).await.err().unwrap();

    let mut noted = house.noted_to_the_end().await;
    noted.sort();
    assert_eq!(noted, ["closed 1006", "closed 1011"]);
}

#[tokio::test]
async fn what_a_client_said_before_it_went_is_handled() {
    let mut house = House::open().await;
    let peer = house.client_of("fn receive(scope, frame) { note(frame.text); }").await;

    peer.says_text(r#"{"text": "one"}"#);
    peer.says_text(r#"{"text": "two"}"#);
    drop(peer);

    assert_eq!(house.noted().await, "one");
    assert_eq!(house.noted().await, "two");
}

#[tokio::test]
async fn disconnect_waits_for_no_other_socket() {
    let mut house = House::with(Settings { threads: 1, sockets: 9 }).await;
    let busy = house.client_of(ECHO).await;
    let waiting = house.client_of(ECHO).await;
    busy.says(asks("gate"));
    assert_eq!(house.noted().await, "at the gate");

    drop(waiting);

    assert_eq!(house.noted().await, "closed 1006");
    house.gate.send(()).unwrap();
}

#[tokio::test]
async fn a_client_that_goes_while_it_connects_is_told_off() {
    let mut house = House::open().await;
    let consumer = house.consumer(
        "fn connect(scope) { accept(); note(\"at the gate\"); gate(); }
         fn disconnect(scope, code) { note(\"closed \" + code); }",
    );
    let hub = house.hub.clone();
    let connecting = tokio::spawn(async move { hub.open(consumer, Scope::default()).await });
    assert_eq!(house.noted().await, "at the gate");

    connecting.abort();
    assert!(connecting.await.is_err());
    house.gate.send(()).unwrap();

    assert_eq!(house.noted().await, "closed 1006");
}

#[tokio::test]
async fn a_socket_that_does_not_keep_up_with_events_is_closed() {
    let mut house = House::open().await;
    let mut peer = house.client_of(ECHO).await;
    peer.says(asks("gate"));
    assert_eq!(house.noted().await, "at the gate");

    for _ in 0..2000 {
        house.send("hello");
    }
    house.gate.send(()).unwrap();

    assert_eq!(peer.hears_close().await, code::SLOW);
    assert_eq!(house.noted().await, "closed 4410");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed() {
    let mut house = House::open().await;
    let peer = Peer::join(house.connect(ECHO).await.unwrap(), 1);

    peer.says(asks("flood"));

    assert_eq!(house.noted().await, "closed 4410");
}

#[tokio::test]
async fn stopping_closes_every_socket_and_refuses_new_ones() {
    let mut house = House::open().await;
    let (mut one, mut two) = (house.client_of(ECHO).await, house.client_of(ECHO).await);
    one.says(asks("gate"));
    assert_eq!(house.noted().await, "at the gate");
    assert_eq!(house.hub.sockets(), 2);

    let hub = house.hub.clone();
    let closing = tokio::spawn(async move { hub.close_all(Duration::from_secs(30)).await });
    assert_eq!(two.hears_close().await, code::GOING_AWAY);
    assert_eq!(house.noted().await, "closed 1001");
    two.says(Incoming::Closed(Some(1001)));
    house.gate.send(()).unwrap();
    assert_eq!(one.hears_close().await, code::GOING_AWAY);
    assert_eq!(house.noted().await, "closed 1001");
    drop((one, two));

    assert!(closing.await.unwrap());
    assert_eq!(house.hub.sockets(), 0);
    assert_eq!(house.connect(ECHO).await.err(), Some(Refused::Stopping));
}

#[tokio::test]
async fn sockets_are_bounded() {
    let house = House::with(Settings { threads: 1, sockets: 1 }).await;
    let _first = house.client_of(ECHO).await;

    assert_eq!(house.connect(ECHO).await.err(), Some(Refused::Full));
}
