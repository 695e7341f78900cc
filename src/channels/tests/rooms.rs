//! The chat that is shipped.

use super::*;

#[tokio::test]
async fn what_one_says_everyone_in_the_room_hears() {
    let house = House::open().await;
    let consumer = house.consumer(&chat());
    let mut lobby = Vec::new();
    for _ in 0..3 {
        lobby.push(Peer::join(house.enter(&consumer, "로비 1").await.unwrap(), 9));
    }
    let mut other = Peer::join(house.enter(&consumer, "other").await.unwrap(), 9);

    lobby[0].says_text(r#"{"message": "안녕"}"#);
    other.says_text(r#"{"message": "elsewhere"}"#);

    for peer in &mut lobby {
        assert_eq!(peer.hears_text().await, r#"{"message":"안녕"}"#);
    }
    assert_eq!(other.hears_text().await, r#"{"message":"elsewhere"}"#);
}

#[tokio::test]
async fn the_tutorials_page_gets_only_messages() {
    let house = House::open().await;
    let mut peer = house.client_of(&chat()).await;

    for bad in [r#"{}"#, r#"{"message": 1}"#, r#"{"message": null}"#, r#"{"text": "hi"}"#, "[]", "no JSON", ""] {
        peer.says_text(bad);
    }
    house.hub.group_send("chat_lobby", &json!({ "type": "chat.message", "message": 7 })).unwrap();
    house.hub.group_send("chat_lobby", &json!({ "type": "chat.message" })).unwrap();
    peer.says_text(r#"{"message": "hi", "extra": 1}"#);

    assert_eq!(peer.hears_text().await, r#"{"message":"hi"}"#);
}

#[tokio::test]
async fn a_room_has_a_name_of_64_characters_at_most() {
    let house = House::open().await;
    let consumer = house.consumer(&chat());

    assert!(house.enter(&consumer, &"방".repeat(64)).await.is_ok());
    assert_eq!(house.enter(&consumer, &"방".repeat(65)).await.err(), Some(Refused::NotAccepted));
}
