//! Blobs: what makes a long one, or many values of it.

use rhai::{Blob, Module};

use super::{collect, put};
use crate::script::Native;
use crate::script::limit::reserve;

pub(super) fn functions(module: &mut Module) {
    let doc = "So many bytes: `blob(10)`, `blob(10, 0x20)`.";
    put(module, "blob", doc, |length: i64| filled(length, 0));
    put(module, "blob", doc, filled);
    put(
        module,
        "pad",
        "Makes a blob at least so long: `bytes.pad(10, 0)`.",
        |blob: &mut Blob, length: i64, byte: i64| {
            let length = usize::try_from(length).unwrap_or(0);
            if length > blob.len() {
                reserve(length)?;
                blob.resize(length, low_byte(byte));
            }
            Native::Ok(())
        },
    );
    put(module, "to_array", "Its bytes as numbers: `bytes.to_array()`.", |blob: &mut Blob| {
        collect(blob.iter().map(|byte| i64::from(*byte)))
    });
}

fn filled(length: i64, byte: i64) -> Native<Blob> {
    let length = usize::try_from(length).unwrap_or(0);
    reserve(length)?;
    Ok(vec![low_byte(byte); length])
}

fn low_byte(number: i64) -> u8 {
    number.to_le_bytes()[0]
}
