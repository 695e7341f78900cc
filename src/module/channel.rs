//! `channel::` and the words of a consumer: sockets and groups.

use rhai::{Dynamic, Map, Module};

use super::{add, plain, wrong};
use crate::script::{Host, HostError, Native, SocketHost, host, outside, to_json};

pub(super) fn module(global: &mut Module) -> Module {
    let mut module = Module::new();
    let signature = "group_send(group: string, event: map)";
    let doc = "Sends an event to every socket of a group";
    let example = r#"group_send("chat_lobby", #{ type: "chat.message", message: "hi" })"#;
    add(&mut module, signature, &format!("{doc}: `channel::{example}`."), group_send);
    add(global, signature, &format!("{doc}: `{example}`."), group_send);
    add(global, "accept()", "Accepts the socket; without it, it is refused: `accept()`.", || {
        with_socket("accept", |socket| socket.accept())
    });
    add(global, "close()", "Closes the socket: `close()`.", || close(1000));
    add(global, "close(code: int)", "Closes it with 1000, or with 3000 to 4999: `close(4001)`.", close);
    add(
        global,
        "send(message: map | string)",
        "Sends one text frame, a map as JSON: `send(#{ message: \"hi\" })`.",
        |message: Dynamic| -> Native<()> {
            let frame = frame(&message)?;
            with_socket("send", |socket| socket.send(frame.clone()))
        },
    );
    add(
        global,
        "group_add(group: string)",
        "Puts the socket into a group: `group_add(\"chat_lobby\")`.",
        |group: &str| with_socket("group_add", |socket| socket.group_add(group)),
    );
    add(
        global,
        "group_discard(group: string)",
        "Takes the socket out of a group: `group_discard(\"chat_lobby\")`.",
        |group: &str| with_socket("group_discard", |socket| socket.group_discard(group)),
    );
    module
}

fn group_send(group: &str, event: Map) -> Native<()> {
    let host = host("group_send")?;
    if !event.get("type").is_some_and(Dynamic::is_string) {
        return Err(wrong("ValueError", "`group_send`: an event is a map with a `type`, as in `chat.message`"));
    }
    let event: serde_json::Value = plain(&Dynamic::from(event))?;
    Ok(outside(|| host.group_send(group, event.clone()))?)
}

fn with_socket(what: &str, ask: impl FnOnce(&dyn SocketHost) -> Result<(), HostError>) -> Native<()> {
    let host = host(what)?;
    let socket = Host::socket(&*host).ok_or_else(|| HostError::not_here(what, host.place()))?;
    Ok(outside(|| ask(socket))?)
}

fn close(code: i64) -> Native<()> {
    let code = u16::try_from(code).ok().filter(|code| matches!(code, 1000 | 3000..=4999));
    let code = code.ok_or_else(|| wrong("ValueError", "`close`: the code is 1000, or 3000 to 4999"))?;
    with_socket("close", |socket| socket.close(code))
}

fn frame(message: &Dynamic) -> Native<String> {
    if let Ok(text) = message.as_immutable_string_ref() {
        return Ok(text.to_string());
    }
    if message.is_map() {
        return Ok(to_json(message)?.get().to_owned());
    }
    Err(wrong("TypeError", format!("`send` takes a map or a string, not {}", message.type_name())))
}

#[cfg(test)]
mod tests {
    use crate::module::tests::Room;

    #[test]
    fn a_consumer_speaks_to_its_socket_and_groups() {
        let room = Room::consumer();

        room.run(
            r#"accept(); group_add("g"); send(#{ message: "hi" }); send("plain");
               group_send("g", #{ type: "chat.message", n: 1 }); channel::group_send("g", #{ type: "x" });
               group_discard("g"); close(); close(4001)"#,
        )
        .unwrap();

        assert_eq!(
            room.lines(),
            [
                "accept",
                "add g",
                r#"frame {"message":"hi"}"#,
                "frame plain",
                r#"to g {"n":1,"type":"chat.message"}"#,
                r#"to g {"type":"x"}"#,
                "discard g",
                "close 1000",
                "close 4001"
            ]
        );
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for (script, class) in [
            ("send(5)", "TypeError"),
            ("send(#{ a: || 1 })", "TypeError"),
            ("close(1006)", "ValueError"),
            ("close(-1)", "ValueError"),
            (r#"group_send("g", #{})"#, "ValueError"),
        ] {
            assert_eq!(Room::consumer().fails(script).exc_type, class, "{script}");
        }
    }

    #[test]
    fn a_task_has_no_socket_but_reaches_groups() {
        let room = Room::default();

        assert_eq!(room.fails("accept()").exc_message, "`accept` is not available in a task");
        room.run(r#"group_send("g", #{ type: "x" })"#).unwrap();

        assert_eq!(room.lines(), [r#"to g {"type":"x"}"#]);
    }

    #[test]
    fn a_script_may_have_functions_of_these_names() {
        let room = Room::default();

        assert_eq!(room.call("fn send(x) { x + 1 } fn main() { send(1) }", "main").unwrap(), "2");
    }
}
