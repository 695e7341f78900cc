//! A client of an opened socket, as a transport would bring it.

use futures_util::{sink, stream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Incoming, Opening, Outgoing};

/// The other end of a transport in memory. Dropping it is the client's vanishing.
pub struct Peer {
    to: mpsc::UnboundedSender<Incoming>,
    from: mpsc::Receiver<Outgoing>,
    over: JoinHandle<()>,
}

impl Peer {
    /// Joins `opening` with a client whose connection holds `room` frames that it has not read.
    pub fn join(opening: Opening, room: usize) -> Self {
        let (to, incoming) = mpsc::unbounded_channel();
        let (outgoing, from) = mpsc::channel(room);
        let incoming = stream::unfold(incoming, async |mut incoming| Some((incoming.recv().await?, incoming)));
        let outgoing = sink::unfold(outgoing, async |outgoing: mpsc::Sender<Outgoing>, frame| {
            outgoing.send(frame).await.map(|()| outgoing)
        });
        Self { to, from, over: tokio::spawn(opening.run(incoming, outgoing)) }
    }

    pub fn says(&self, frame: Incoming) {
        self.to.send(frame).expect("the socket reads");
    }

    pub fn says_text(&self, text: &str) {
        self.says(Incoming::Text(text.to_owned()));
    }

    /// The next frame; `None` when the connection is over.
    pub async fn hears(&mut self) -> Option<Outgoing> {
        self.from.recv().await
    }

    pub async fn hears_text(&mut self) -> String {
        match self.hears().await {
            Some(Outgoing::Text(text)) => text,
            other => panic!("heard {other:?}"),
        }
    }

    /// The code of the close frame, which must come next.
    pub async fn hears_close(&mut self) -> u16 {
        match self.hears().await {
            Some(Outgoing::Close { code, .. }) => code,
            other => panic!("heard {other:?}"),
        }
    }

    /// Waits until the socket has let go of its transport.
    pub async fn until_let_go(self) {
        let Self { to: _open, from: _unread, over } = self;
        over.await.expect("the transport does not panic");
    }
}
