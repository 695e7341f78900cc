//! Everything in a project folder that can be run: `tasks/` and `plugins/`, read into one catalog.
//!
//! A [`Loader`] reads the whole folder each time anything in it changes, makes a new [`Catalog`] and swaps it in
//! whole; what did not change keeps its compiled script. Whoever runs or checks a task holds the catalog of that
//! moment, so nothing changes under a running task. A file that is wrong is said to be, in the log and in the
//! catalog, and its last good version serves on: nothing here ever takes away what worked because of a mistake.
//!
//! What can be promised about versions: a run uses one script with everything that it imports, and these texts stood
//! together on the disk at one moment. What is swapped whole (a folder by its link or by renaming, what git checks
//! out) is never seen mixed. Two files that are saved one after the other can be read in between, with the first new
//! and the second old; then they are read again.
//!
//! This room runs nothing, and knows neither stores nor workers.

mod arguments;
mod bundle;
mod catalog;
mod declared;
mod difference;
mod handlers;
mod loader;
mod manifest;
mod path;
mod scripts;
#[cfg(test)]
mod shipped;
#[cfg(test)]
mod tests;
mod tree;

pub use arguments::ArgumentError;
pub use catalog::{Catalog, Catalogs, Consumer, Plugin, Task, module_of};
pub use loader::Loader;
pub use tree::is_test;
