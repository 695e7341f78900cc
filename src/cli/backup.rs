//! `umbel backup`: a copy of the embedded store, also while umbel runs.

use std::path::Path;
use std::process::ExitCode;

use super::paper::say;
use crate::config::Settings;
use crate::store;

pub(super) fn run(settings: &Settings, file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let bytes = store::backup(&settings.store, &settings.folder, file)?;
    if json {
        say(&serde_json::json!({ "file": file, "bytes": bytes }).to_string())?;
    } else {
        say(&format!("copied {} to {}", bytesize::ByteSize(bytes), file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
