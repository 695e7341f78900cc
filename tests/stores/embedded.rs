//! The promises against SQLite in a folder of its own.

use tempfile::TempDir;
use umbel::store::{Settings, Stores};

use crate::hold_every_promise;
use crate::place::Place;

struct Embedded {
    folder: TempDir,
    settings: Settings,
    stores: Stores,
}

async fn open_in(folder: &TempDir, settings: &Settings) -> Stores {
    umbel::store::open("sqlite:data/umbel.db", folder.path(), settings.clone()).await.unwrap()
}

impl Place for Embedded {
    async fn open(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stores = open_in(&folder, &settings).await;
        Self { folder, settings, stores }
    }

    fn stores(&self) -> &Stores {
        &self.stores
    }

    async fn die(self) -> Self {
        let Self { folder, settings, stores } = self;
        drop(stores);
        let stores = open_in(&folder, &settings).await;
        Self { folder, settings, stores }
    }

    async fn beside(&self) -> Stores {
        self.stores.clone()
    }
}

hold_every_promise!(super::Embedded);
