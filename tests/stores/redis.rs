//! The promises against a real redis-server, one for each promise.

use umbel::store::{Settings, Stores};

use crate::hold_every_promise;
use crate::place::Place;
use crate::redis_server::RedisServer;

struct Redis {
    server: RedisServer,
    settings: Settings,
    stores: Stores,
}

async fn connect(server: &RedisServer, settings: &Settings) -> Stores {
    umbel::store::open(&server.url(), std::path::Path::new("."), settings.clone()).await.unwrap()
}

impl Place for Redis {
    async fn open(settings: Settings) -> Self {
        let server = RedisServer::start();
        let stores = connect(&server, &settings).await;
        Self { server, settings, stores }
    }

    fn stores(&self) -> &Stores {
        &self.stores
    }

    async fn die(self) -> Self {
        let Self { server, settings, stores } = self;
        drop(stores);
        let stores = connect(&server, &settings).await;
        Self { server, settings, stores }
    }

    async fn beside(&self) -> Stores {
        connect(&self.server, &self.settings).await
    }
}

hold_every_promise!(super::Redis);
