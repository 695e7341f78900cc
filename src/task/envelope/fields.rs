//! The fields of a JSON object, each as it was written: nothing in them can be too deep or too large a number.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::task::{Json, to_json};

/// Named values that are read one by one, by whoever needs one.
#[derive(Default, Deserialize, serde::Serialize)]
pub(super) struct Fields(BTreeMap<String, Json>);

impl Fields {
    /// Of a name that stands twice the last one counts, as with Python.
    ///
    /// # Errors
    /// When `text` is no JSON object.
    pub fn read(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The value of `name` as it was written; `None` when it is absent or null.
    pub fn raw(&self, name: &str) -> Option<&Json> {
        self.0.get(name).filter(|value| value.get() != "null")
    }

    /// The value of `name`; `None` also when it is of another type.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.raw(name).and_then(|value| serde_json::from_str(value.get()).ok())
    }

    pub fn take(&mut self, name: &str) -> Option<Json> {
        self.0.remove(name).filter(|value| value.get() != "null")
    }

    pub fn put(&mut self, name: &str, value: &impl serde::Serialize) {
        self.0.insert(name.to_owned(), to_json(value));
    }

    /// Puts what is absent or null.
    pub fn complete(&mut self, name: &str, value: &impl serde::Serialize) {
        if self.raw(name).is_none() {
            self.put(name, value);
        }
    }

    /// Puts `Some`; what is `None` leaves what stands there, and is null where nothing does.
    pub fn put_known(&mut self, name: &str, value: Option<impl serde::Serialize>) {
        match value {
            Some(value) => self.put(name, &value),
            None if self.0.contains_key(name) => {}
            None => self.put(name, &()),
        }
    }

    /// All of `others`, over what stands here.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }
}
