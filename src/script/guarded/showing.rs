//! Values as text, bounded in depth and length.

use std::fmt::{self, Write};

use rhai::{Array, Dynamic, ImmutableString, Map, Module, NativeCallContext};

use super::{LEVELS, put};
use crate::script::limit::step;

/// Characters of a text that are written between two steps.
const STRETCH: usize = 4 << 10;

pub(super) fn functions(module: &mut Module) {
    for name in ["print", "debug", "to_string", "to_debug"] {
        let doc = "A value as text; what is nested very deeply is `…`: `to_string([1, [2]])`.";
        put(module, name, doc, |context: NativeCallContext<'_>, list: &mut Array| -> ImmutableString {
            let mut shown = Shown { context: &context, text: String::new() };
            shown.list(list, LEVELS);
            shown.text.into()
        });
        put(module, name, doc, |context: NativeCallContext<'_>, map: &mut Map| -> ImmutableString {
            let mut shown = Shown { context: &context, text: String::new() };
            shown.map(map, LEVELS);
            shown.text.into()
        });
    }
    for name in ["debug", "to_debug"] {
        let doc = "A text in quotes, with escapes: `to_debug(\"a\")`.";
        put(module, name, doc, |context: NativeCallContext<'_>, text: &str| -> ImmutableString {
            let mut shown = Shown { context: &context, text: String::new() };
            shown.quoted(text);
            shown.text.into()
        });
    }
}

/// A text that is being written. It is never an error that it ends early because the script must: rhai answers an
/// error of these functions by writing the value itself, without bounds. The script ends at its next operation.
struct Shown<'a> {
    context: &'a NativeCallContext<'a>,
    text: String,
}

impl Shown<'_> {
    /// False when the script must end.
    fn value(&mut self, value: &Dynamic, levels: usize) -> bool {
        if step().is_err() {
            return false;
        }
        if let Ok(list) = value.as_array_ref() {
            return self.list(&list, levels);
        }
        if let Ok(map) = value.as_map_ref() {
            return self.map(&map, levels);
        }
        if let Ok(text) = value.as_immutable_string_ref() {
            return self.quoted(&text);
        }
        if value.is_shared() && value.is_locked() {
            self.text.push('…');
            return true;
        }
        // Numbers and the like, as rhai or whoever made their type shows them.
        let shown = self.context.call_native_fn_raw("to_debug", true, &mut [&mut value.clone().flatten()]);
        match shown.ok().and_then(|shown| shown.into_immutable_string().ok()) {
            Some(shown) => self.text.push_str(&shown),
            None => self.text.push_str(value.type_name()),
        }
        true
    }

    fn list(&mut self, list: &Array, levels: usize) -> bool {
        let Some(levels) = levels.checked_sub(1) else {
            self.text.push('…');
            return true;
        };
        self.text.push('[');
        for (index, item) in list.iter().enumerate() {
            if index > 0 {
                self.text.push_str(", ");
            }
            if !self.value(item, levels) {
                return false;
            }
        }
        self.text.push(']');
        true
    }

    fn map(&mut self, map: &Map, levels: usize) -> bool {
        let Some(levels) = levels.checked_sub(1) else {
            self.text.push('…');
            return true;
        };
        self.text.push_str("#{");
        for (index, (name, item)) in map.iter().enumerate() {
            if index > 0 {
                self.text.push_str(", ");
            }
            self.quoted(name);
            self.text.push_str(": ");
            if !self.value(item, levels) {
                return false;
            }
        }
        self.text.push('}');
        true
    }

    fn quoted(&mut self, text: &str) -> bool {
        let mut rest = text;
        self.text.push('"');
        while !rest.is_empty() {
            if step().is_err() {
                return false;
            }
            let (stretch, after) = rest.split_at(rest.floor_char_boundary(STRETCH));
            // As `{:?}` writes it; within quotes an apostrophe needs no escape.
            for letter in stretch.chars() {
                if letter == '\'' {
                    self.text.push(letter);
                } else {
                    self.text.extend(letter.escape_debug());
                }
            }
            rest = after;
        }
        self.text.push('"');
        true
    }
}

/// A value as text of at most about `most` bytes, for messages and logs.
pub fn brief(value: &Dynamic, most: usize) -> String {
    let mut brief = Brief { text: String::new(), most };
    // Writing ends with an error once it is full.
    let _ = write!(brief, "{value}");
    brief.text
}

/// A value as a script would write it, with texts in quotes; of one that is longer than `most` bytes the beginning
/// and `…`.
pub fn literal(value: &Dynamic, most: usize) -> String {
    let mut brief = Brief { text: String::new(), most };
    let whole = write!(brief, "{value:?}");
    if whole.is_err() {
        brief.text.push('…');
    }
    brief.text
}

struct Brief {
    text: String,
    most: usize,
}

impl Write for Brief {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.most - self.text.len();
        let fits = text.floor_char_boundary(room);
        self.text.push_str(&text[..fits]);
        if fits < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}
