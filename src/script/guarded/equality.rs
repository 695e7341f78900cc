//! Whether nested values are equal, level by level on little stack.

use rhai::{Array, Dynamic, EvalAltResult, Map, Module, NativeCallContext};

use super::{LEVELS, put};
use crate::script::limit::step;
use crate::script::{HostError, Native};

pub(super) fn functions(module: &mut Module) {
    let doc = "Whether all items are equal: `[1] == [1]`.";
    put(module, "==", doc, |context: NativeCallContext<'_>, one: &mut Array, other: Array| {
        lists(&context, one, &other, LEVELS)
    });
    put(module, "!=", doc, |context: NativeCallContext<'_>, one: &mut Array, other: Array| {
        lists(&context, one, &other, LEVELS).map(|equal| !equal)
    });
    put(module, "==", doc, |context: NativeCallContext<'_>, one: &mut Map, other: Map| {
        maps(&context, one, &other, LEVELS)
    });
    put(module, "!=", doc, |context: NativeCallContext<'_>, one: &mut Map, other: Map| {
        maps(&context, one, &other, LEVELS).map(|equal| !equal)
    });
}

/// Whether `one == other` in a script.
pub fn same(context: &NativeCallContext<'_>, one: &Dynamic, other: &Dynamic) -> Native<bool> {
    equal(context, one, other, LEVELS)
}

fn equal(context: &NativeCallContext<'_>, one: &Dynamic, other: &Dynamic, levels: usize) -> Native<bool> {
    step()?;
    if let (Ok(one), Ok(other)) = (one.as_int(), other.as_int()) {
        return Ok(one == other);
    }
    if let (Ok(one), Ok(other)) = (one.as_immutable_string_ref(), other.as_immutable_string_ref()) {
        return Ok(*one == *other);
    }
    match (one.as_array_ref(), other.as_array_ref()) {
        (Ok(one), Ok(other)) => return lists(context, &one, &other, levels),
        (Err(_), Err(_)) => {}
        _ => return Ok(false),
    }
    match (one.as_map_ref(), other.as_map_ref()) {
        (Ok(one), Ok(other)) => return maps(context, &one, &other, levels),
        (Err(_), Err(_)) => {}
        _ => return Ok(false),
    }
    leaves(context, one, other)
}

fn lists(context: &NativeCallContext<'_>, one: &Array, other: &Array, levels: usize) -> Native<bool> {
    let levels = deeper(levels)?;
    if one.len() != other.len() {
        return Ok(false);
    }
    for (one, other) in one.iter().zip(other) {
        if !equal(context, one, other, levels)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn maps(context: &NativeCallContext<'_>, one: &Map, other: &Map, levels: usize) -> Native<bool> {
    let levels = deeper(levels)?;
    if one.len() != other.len() {
        return Ok(false);
    }
    // Both are in the order of their names.
    for ((name, one), (other_name, other)) in one.iter().zip(other) {
        if name != other_name || !equal(context, one, other, levels)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn deeper(levels: usize) -> Native<usize> {
    levels.checked_sub(1).ok_or_else(|| {
        let why = format!("values that are nested more than {LEVELS} levels deep are not compared");
        HostError::new("RecursionError", why).into()
    })
}

// As rhai does for the items of arrays: what cannot be compared is not equal, unless both are of one type.
fn leaves(context: &NativeCallContext<'_>, one: &Dynamic, other: &Dynamic) -> Native<bool> {
    if one.is_shared() && one.is_locked() || other.is_shared() && other.is_locked() {
        return Err(HostError::new("RuntimeError", "a value that contains itself is not compared").into());
    }
    let (mut one, mut other) = (one.clone().flatten(), other.clone().flatten());
    match context.call_native_fn_raw("==", true, &mut [&mut one, &mut other]) {
        Ok(answer) => Ok(answer.as_bool().unwrap_or(false)),
        Err(error) => match *error {
            EvalAltResult::ErrorFunctionNotFound(ref signature, _)
                if signature.starts_with("==") && one.type_id() != other.type_id() =>
            {
                Ok(false)
            }
            _ => Err(error),
        },
    }
}
