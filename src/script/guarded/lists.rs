//! Arrays: what makes a long one, and what looks through a long one.

use rhai::{Array, Dynamic, Module, NativeCallContext};

use super::equality::same;
use super::put;
use crate::script::Native;
use crate::script::limit::step;

pub(super) fn functions(module: &mut Module) {
    put(module, "pad", "Makes a list at least so long: `list.pad(10, 0)`.", pad);
    put(
        module,
        "contains",
        "Whether an item equals a value: `list.contains(5)`, `5 in list`.",
        |context: NativeCallContext<'_>, list: &mut Array, value: Dynamic| -> Native<bool> {
            Ok(index_of(&context, list, &value, 0)? >= 0)
        },
    );
    let doc = "Where the first item is that equals a value, or -1: `list.index_of(5)`.";
    put(module, "index_of", doc, |context: NativeCallContext<'_>, list: &mut Array, value: Dynamic| {
        index_of(&context, list, &value, 0)
    });
    put(module, "index_of", doc, |context: NativeCallContext<'_>, list: &mut Array, value: Dynamic, start: i64| {
        index_of(&context, list, &value, start)
    });
    put(module, "dedup", "Leaves one of items that follow each other and are equal: `list.dedup()`.", dedup);
}

fn pad(list: &mut Array, length: i64, item: Dynamic) -> Native<()> {
    let length = usize::try_from(length).unwrap_or(0);
    while list.len() < length {
        step()?;
        list.push(item.clone());
    }
    Ok(())
}

fn index_of(context: &NativeCallContext<'_>, list: &Array, value: &Dynamic, start: i64) -> Native<i64> {
    let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
    // From its end where it is negative.
    let start = if start < 0 { (length + start.max(-length)).max(0) } else { start };
    for (index, item) in list.iter().enumerate().skip(usize::try_from(start).unwrap_or(0)) {
        if same(context, item, value)? {
            return Ok(i64::try_from(index).unwrap_or(i64::MAX));
        }
    }
    Ok(-1)
}

fn dedup(context: NativeCallContext<'_>, list: &mut Array) -> Native<()> {
    // All are compared first: a script may catch that two cannot be, and then has its list as it was.
    let mut repeated = Vec::with_capacity(list.len());
    let mut last = None;
    for item in list.iter() {
        let is_repeated = match last {
            Some(last) => same(&context, last, item)?,
            None => false,
        };
        if !is_repeated {
            last = Some(item);
        }
        repeated.push(is_repeated);
    }
    let mut repeated = repeated.into_iter();
    list.retain(|_| repeated.next() == Some(false));
    Ok(())
}
