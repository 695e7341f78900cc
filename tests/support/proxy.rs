//! A network that can be cut: a TCP proxy on a free loopback port, gone with the value.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

pub struct Proxy {
    port: u16,
    network: Arc<Network>,
}

/// What happens to what is sent in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Open,
    /// It waits, and arrives once the way is open: packets are lost for a while.
    Stalled,
    /// It never arrives, nor does anything after it on the same connection: the other end has vanished.
    Swallowed,
}

pub const TO_SERVER: usize = 0;
pub const TO_CLIENT: usize = 1;

struct Network {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    ways: [Way; 2],
    /// Bytes a second, of all connections together; as fast as this machine where there is none.
    rates: [Option<usize>; 2],
    /// When what was sent last has arrived.
    busy_until: [Instant; 2],
    /// How many bytes arrived.
    carried: [usize; 2],
    /// New connections end at once.
    cut: bool,
    connections: Vec<Connection>,
}

struct Connection {
    ends: [TcpStream; 2],
    /// Nothing arrives on it any more.
    dead: bool,
}

impl Proxy {
    /// Leads to `port` of this machine.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let state = State {
            ways: [Way::Open; 2],
            rates: [None; 2],
            busy_until: [Instant::now(); 2],
            carried: [0; 2],
            cut: false,
            connections: Vec::new(),
        };
        let network = Arc::new(Network { state: Mutex::new(state), changed: Condvar::new() });
        let shared = network.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                shared.join(client, server);
            }
        });
        Self { port: own, network }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// From now on, of what is sent in `direction`.
    pub fn set(&self, direction: usize, way: Way) {
        self.network.state().ways[direction] = way;
        self.network.changed.notify_all();
    }

    /// From now on, no more than so many bytes a second arrive of what is sent in `direction`.
    pub fn slow_down(&self, direction: usize, rate: usize) {
        self.network.state().rates[direction] = Some(rate);
    }

    /// How many bytes arrived of what was sent in `direction`.
    pub fn carried(&self, direction: usize) -> usize {
        self.network.state().carried[direction]
    }

    /// Every connection ends, and new ones do at once.
    pub fn cut(&self) {
        let mut state = self.network.state();
        state.cut = true;
        for connection in state.connections.drain(..) {
            connection.end();
        }
    }

    /// Nothing is cut any more. What was swallowed is lost.
    pub fn mend(&self) {
        let mut state = self.network.state();
        state.cut = false;
        state.ways = [Way::Open; 2];
        self.network.changed.notify_all();
    }

    /// The other end of every connection that there is vanishes without a word; new ones are not concerned.
    pub fn lose_all(&self) {
        self.network.state().connections.iter_mut().for_each(|connection| connection.dead = true);
    }

    /// The same for the connection of that number, counted from 0 as they were made.
    pub fn lose(&self, number: usize) {
        self.network.state().connections[number].dead = true;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.network.changed.notify_all();
    }
}

impl Connection {
    fn end(&self) {
        // It may have ended already.
        self.ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
    }
}

impl Network {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let ends = [client.try_clone().unwrap(), server.try_clone().unwrap()];
        let connection = Connection { ends, dead: false };
        let mut state = self.state();
        if state.cut {
            return connection.end();
        }
        let number = state.connections.len();
        state.connections.push(connection);
        drop(state);
        for (direction, from, to) in
            [(TO_SERVER, client.try_clone().unwrap(), server.try_clone().unwrap()), (TO_CLIENT, server, client)]
        {
            let network = self.clone();
            std::thread::spawn(move || network.pump(number, direction, from, to));
        }
    }

    fn pump(&self, number: usize, direction: usize, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            std::thread::sleep(self.takes(direction, count));
            if self.lets_through(number, direction) && to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        // Who has vanished does not say that it ends.
        if self.lets_through(number, direction) {
            let _ = to.shutdown(Shutdown::Both);
        }
    }

    // How long it is until so many bytes more have arrived.
    fn takes(&self, direction: usize, count: usize) -> Duration {
        let (mut state, now) = (self.state(), Instant::now());
        state.carried[direction] += count;
        let Some(rate) = state.rates[direction] else { return Duration::ZERO };
        let arrived = state.busy_until[direction].max(now) + Duration::from_secs(1).mul_f64(count as f64 / rate as f64);
        state.busy_until[direction] = arrived;
        arrived - now
    }

    // Waits while the way is stalled.
    fn lets_through(&self, number: usize, direction: usize) -> bool {
        let mut state = self.state();
        while state.ways[direction] == Way::Stalled && !state.cut {
            state = self.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        let swallowed = state.ways[direction] == Way::Swallowed;
        let Some(connection) = state.connections.get_mut(number) else { return false };
        connection.dead |= swallowed;
        !connection.dead
    }
}
