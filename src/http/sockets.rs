//! WebSockets: joins axum's with the hub's. Which paths there are is the catalog's business.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, FromRequestParts, Query, Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use futures_util::{SinkExt, StreamExt, future};
use percent_encoding::percent_decode_str;

use super::token::{Bearer, Scope as TokenScope};
use super::{Problem, Shared};
use crate::channels::{Incoming, MAX_FRAME, MAX_SENT, Opening, Outgoing, Scope};

/// Of each socket, for reading and for writing: nearly all of what an idle one costs.
const BUFFER: usize = 4096;

/// What may wait to be written to a client that reads slowly, in bytes. Its socket ends where more would wait, so the
/// largest frame must fit with its header, behind what is gathered before it is written.
const MAX_WAITING: usize = MAX_SENT + 2 * BUFFER;

/// Headers that a consumer may know.
const TOLD: [&str; 2] = ["origin", "user-agent"];

/// Everything that has no route comes here: it is the path of a consumer, or nothing.
pub(super) async fn open(State(door): Shared, request: Request) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let catalog = door.client.catalogs().current();
    let Some((consumer, params)) = catalog.consumer(&path) else { return Err(Problem::UnknownPath { path }) };
    let consumer = consumer.clone();
    drop(catalog);
    if let Some(bearer) = parts.extensions.get::<Bearer>() {
        bearer.may(&[TokenScope::Send])?;
    }
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &door)
        .await
        .map_err(|why| Problem::SocketsOnly { path, reason: why.body_text() })?;
    let opening = door.hub.open(consumer, scope(&parts, params)).await?;
    let upgrade = upgrade
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_write_buffer_size(MAX_WAITING)
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME);
    Ok(upgrade.on_upgrade(|socket| join(opening, socket)))
}

fn scope(parts: &Parts, params: BTreeMap<String, String>) -> Scope {
    let told = TOLD.into_iter().filter_map(|name| {
        let value = parts.headers.get(name)?;
        Some((name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
    });
    Scope {
        path: percent_decode_str(parts.uri.path()).decode_utf8_lossy().into_owned(),
        params,
        query: Query::try_from_uri(&parts.uri).map_or_else(|_| BTreeMap::new(), |Query(query)| query),
        headers: told.collect(),
        client: parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|client| client.0.to_string()),
    }
}

async fn join(opening: Opening, socket: WebSocket) {
    let (outgoing, incoming) = socket.split();
    let outgoing = outgoing.with(|frame| future::ok::<_, axum::Error>(written(frame)));
    opening.run(incoming.filter_map(|frame| future::ready(read(frame))), outgoing).await;
}

// `None` where the connection failed: the stream ends after it.
fn read(frame: Result<Message, axum::Error>) -> Option<Incoming> {
    match frame {
        Ok(Message::Text(text)) => Some(Incoming::Text(text.to_string())),
        Ok(Message::Binary(_)) => Some(Incoming::Binary),
        Ok(Message::Ping(_) | Message::Pong(_)) => Some(Incoming::Alive),
        Ok(Message::Close(frame)) => Some(Incoming::Closed(frame.map(|frame| frame.code))),
        Err(error) => match error.into_inner().downcast_ref() {
            Some(tungstenite::Error::Capacity(_)) => Some(Incoming::TooBig),
            _ => None,
        },
    }
}

fn written(frame: Outgoing) -> Message {
    match frame {
        Outgoing::Text(text) => Message::Text(text.into()),
        Outgoing::Ping => Message::Ping(Default::default()),
        Outgoing::Close { code, reason } => Message::Close(Some(CloseFrame { code, reason: reason.into() })),
    }
}
