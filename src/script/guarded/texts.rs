//! Texts: what makes a long one, or many.

use rhai::{Array, Dynamic, ImmutableString, Module};

use super::{collect, put};
use crate::script::Native;
use crate::script::limit::reserve;

pub(super) fn functions(module: &mut Module) {
    let doc = "Makes a text at least so many characters long: `t.pad(10, '.')`.";
    put(module, "pad", doc, |text: &mut ImmutableString, length: i64, with: char| pad(text, length, &with.to_string()));
    put(module, "pad", doc, |text: &mut ImmutableString, length: i64, with: &str| pad(text, length, with));

    let doc = "Replaces every place where a text or a character is found: `t.replace(\"a\", \"b\")`.";
    put(module, "replace", doc, |text: &mut ImmutableString, find: &str, with: &str| replace(text, find, with));
    put(module, "replace", doc, |text: &mut ImmutableString, find: &str, with: char| {
        replace(text, find, &with.to_string())
    });
    put(module, "replace", doc, |text: &mut ImmutableString, find: char, with: &str| {
        replace(text, &find.to_string(), with)
    });
    put(module, "replace", doc, |text: &mut ImmutableString, find: char, with: char| {
        replace(text, &find.to_string(), &with.to_string())
    });

    put(module, "to_chars", "Its characters: `t.to_chars()`.", |text: &str| collect(text.chars()));
    put(module, "split", "Its pieces between white space: `t.split()`.", |text: &mut ImmutableString| {
        if text.is_empty() { whole(text) } else { collect(text.split_whitespace()) }
    });
    splits(module);
}

fn splits(module: &mut Module) {
    let doc = "Its pieces between separators: `t.split(\",\")`.";
    put(
        module,
        "split",
        doc,
        |text: &mut ImmutableString, at: &str| {
            if found(text, at) { collect(text.split(at)) } else { whole(text) }
        },
    );
    put(module, "split", doc, |text: &mut ImmutableString, at: char| collect(text.split(at)));
    let doc = "Its first pieces between separators, and the rest: `t.split(\",\", 2)`.";
    put(
        module,
        "split",
        doc,
        |text: &mut ImmutableString, at: &str, most: i64| {
            if found(text, at) { collect(text.splitn(count(most), at)) } else { whole(text) }
        },
    );
    put(module, "split", doc, |text: &mut ImmutableString, at: char, most: i64| collect(text.splitn(count(most), at)));
    let doc = "Its pieces between separators, from its end: `t.split_rev(\",\")`.";
    put(
        module,
        "split_rev",
        doc,
        |text: &mut ImmutableString, at: &str| {
            if found(text, at) { collect(text.rsplit(at)) } else { whole(text) }
        },
    );
    put(module, "split_rev", doc, |text: &mut ImmutableString, at: char| collect(text.rsplit(at)));
    let doc = "Its last pieces between separators, and the rest: `t.split_rev(\",\", 2)`.";
    put(
        module,
        "split_rev",
        doc,
        |text: &mut ImmutableString, at: &str, most: i64| {
            if found(text, at) { collect(text.rsplitn(count(most), at)) } else { whole(text) }
        },
    );
    put(module, "split_rev", doc, |text: &mut ImmutableString, at: char, most: i64| {
        collect(text.rsplitn(count(most), at))
    });
}

// As rhai does: an empty text is one piece whatever it is split at.
fn found(text: &str, at: &str) -> bool {
    !text.is_empty() && text.contains(at)
}

fn whole(text: &ImmutableString) -> Native<Array> {
    Ok(vec![Dynamic::from(text.clone())])
}

fn count(most: i64) -> usize {
    usize::try_from(most.max(1)).unwrap_or(usize::MAX)
}

fn pad(text: &mut ImmutableString, length: i64, with: &str) -> Native<()> {
    let (have, each) = (text.chars().count(), with.chars().count());
    let missing = usize::try_from(length).unwrap_or(0).saturating_sub(have);
    if missing == 0 || each == 0 {
        return Ok(());
    }
    // A piece that does not fit whole is cut.
    let (whole, part) = (missing / each, missing % each);
    let part: String = with.chars().take(part).collect();
    let bytes = with.len().saturating_mul(whole).saturating_add(text.len() + part.len());
    reserve(bytes)?;
    // Not piece by piece: there may be millions.
    let mut made = with.repeat(whole);
    made.reserve_exact(bytes - made.len());
    made.insert_str(0, text);
    made.push_str(&part);
    *text = made.into();
    Ok(())
}

fn replace(text: &mut ImmutableString, find: &str, with: &str) -> Native<()> {
    if text.is_empty() {
        return Ok(());
    }
    if with.len() > find.len() {
        let grows = text.matches(find).count().saturating_mul(with.len() - find.len());
        reserve(grows.saturating_add(text.len()))?;
    }
    *text = text.replace(find, with).into();
    Ok(())
}
