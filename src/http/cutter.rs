//! Cuts a body that tells of many tasks into the texts of its tasks, as it arrives.
//!
//! Two forms are read: an array in JSON, and one task a line (NDJSON), where blank lines do not count. Only the
//! borders between the tasks are found here; what stands between them is read by whoever is given it.

use super::request::at;
use super::{Problem, body};

/// The most tasks of one batch.
pub(super) const MOST: usize = 10_000;

/// Remembers where in the body it is, and what of a task has come.
pub(super) struct Cutter {
    form: Form,
    /// The beginning of a task whose end has not come.
    begun: Vec<u8>,
    count: usize,
}

enum Form {
    /// Nothing but blanks has come.
    Unknown,
    Lines,
    Array {
        /// Of the brackets that are open within the task.
        depth: usize,
        quoted: bool,
        escaped: bool,
    },
    /// The array has ended.
    Ended,
}

/// What a byte is.
enum Byte {
    /// A part of a task.
    Inside,
    /// No part of any.
    Between,
    /// The end of a task, and no part of it.
    End,
}

impl Cutter {
    /// `lines`: the sender says that it is one task a line; otherwise the first byte that is not blank tells.
    pub fn new(lines: bool) -> Self {
        let form = if lines { Form::Lines } else { Form::Unknown };
        Self { form, begun: Vec::new(), count: 0 }
    }

    /// Takes the next part of the body, and gives `each` the tasks that end in it, with their index.
    pub fn feed(
        &mut self,
        part: &[u8],
        each: &mut impl FnMut(usize, &[u8]) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let mut start = 0;
        for (place, byte) in part.iter().enumerate() {
            match self.step(*byte)? {
                Byte::Inside => {}
                Byte::Between => start = place + 1,
                Byte::End => {
                    self.give(&part[start..place], each)?;
                    start = place + 1;
                }
            }
        }
        if self.begun.len() + part.len() - start > body::ONE {
            return Err(at(self.count, Problem::TooLarge { what: "a task", limit: body::ONE, unit: "bytes" }));
        }
        self.begun.extend_from_slice(&part[start..]);
        Ok(())
    }

    /// The body has ended: gives `each` the last line.
    ///
    /// # Errors
    /// When it ended too early, or was no batch at all.
    pub fn end(mut self, each: &mut impl FnMut(usize, &[u8]) -> Result<(), Problem>) -> Result<(), Problem> {
        match self.form {
            Form::Lines => self.give(&[], each),
            Form::Ended => Ok(()),
            Form::Array { .. } => Err(no_batch("it ends before the array does")),
            Form::Unknown => Err(no_batch("it is empty")),
        }
    }

    fn step(&mut self, byte: u8) -> Result<Byte, Problem> {
        let (depth, quoted, escaped) = match &mut self.form {
            Form::Array { depth, quoted, escaped } => (depth, quoted, escaped),
            Form::Lines => return Ok(if byte == b'\n' { Byte::End } else { Byte::Inside }),
            Form::Unknown | Form::Ended if byte.is_ascii_whitespace() => return Ok(Byte::Between),
            Form::Ended => return Err(no_batch("something follows the array")),
            Form::Unknown if byte == b'[' => {
                self.form = Form::Array { depth: 0, quoted: false, escaped: false };
                return Ok(Byte::Between);
            }
            Form::Unknown if byte == b'{' => {
                self.form = Form::Lines;
                return Ok(Byte::Inside);
            }
            Form::Unknown => return Err(no_batch("it begins with neither `[` nor `{`")),
        };
        match byte {
            _ if *escaped => *escaped = false,
            b'\\' if *quoted => *escaped = true,
            b'"' => *quoted = !*quoted,
            _ if *quoted => {}
            b',' if *depth == 0 => return Ok(Byte::End),
            b']' if *depth == 0 => {
                self.form = Form::Ended;
                return Ok(Byte::End);
            }
            b'[' | b'{' => *depth += 1,
            b']' | b'}' => *depth = depth.saturating_sub(1),
            _ => {}
        }
        Ok(Byte::Inside)
    }

    fn give(&mut self, rest: &[u8], each: &mut impl FnMut(usize, &[u8]) -> Result<(), Problem>) -> Result<(), Problem> {
        let text = if self.begun.is_empty() {
            rest
        } else {
            self.begun.extend_from_slice(rest);
            &self.begun
        };
        let text = text.trim_ascii();
        let is_empty_array = matches!(self.form, Form::Ended) && self.count == 0;
        if text.is_empty() && (is_empty_array || matches!(self.form, Form::Lines)) {
            self.begun.clear();
            return Ok(());
        }
        if self.count == MOST {
            return Err(Problem::TooLarge { what: "a batch", limit: MOST, unit: "tasks" });
        }
        each(self.count, text)?;
        self.count += 1;
        self.begun.clear();
        Ok(())
    }
}

fn no_batch(why: &str) -> Problem {
    Problem::Unreadable { reason: format!("the body is not an array of tasks in JSON, nor one task a line: {why}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// The tasks of a body that comes in parts of `size` bytes.
    fn cut(body: &str, lines: bool, size: usize) -> Result<Vec<String>, Problem> {
        let mut found = Vec::new();
        let mut each = |index: usize, text: &[u8]| {
            assert_eq!(index, found.len());
            found.push(String::from_utf8(text.to_owned()).unwrap());
            Ok(())
        };
        let mut cutter = Cutter::new(lines);
        for part in body.as_bytes().chunks(size) {
            cutter.feed(part, &mut each)?;
        }
        cutter.end(&mut each)?;
        Ok(found)
    }

    #[test]
    fn both_forms_are_cut_however_they_arrive() {
        for size in [1, 2, 7, 1000] {
            for (body, tasks) in [
                ("[]", vec![]),
                (" [ ] \n", vec![]),
                (r#"[{"a":1}]"#, vec![r#"{"a":1}"#]),
                (r#" [ {"a":"],}\"["} , [1,[2]],3 ] "#, vec![r#"{"a":"],}\"["}"#, "[1,[2]]", "3"]),
                ("{\"a\":1}\n\n  \r\n{\"a\":2}\r\n", vec!["{\"a\":1}", "{\"a\":2}"]),
                ("\n {\"a\":1}\n{\"a\":2}", vec!["{\"a\":1}", "{\"a\":2}"]),
                // What is between the borders is not read here.
                ("[1,,2]", vec!["1", "", "2"]),
                ("[1,]", vec!["1", ""]),
                ("{\n5", vec!["{", "5"]),
            ] {
                assert_eq!(cut(body, false, size).unwrap(), tasks, "{body} in parts of {size}");
            }
        }
        assert_eq!(cut("[1]\n[2]\n", true, 3).unwrap(), ["[1]", "[2]"]);
        assert_eq!(cut("", true, 3).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        for (body, told) in [
            ("", "it is empty"),
            (" \n ", "it is empty"),
            ("5", "neither `[` nor `{`"),
            ("[1", "before the array does"),
            ("[\"]", "before the array does"),
            ("[1] 2", "something follows"),
            ("[1]]", "something follows"),
        ] {
            let refused = cut(body, false, 2).unwrap_err().to_string();
            assert!(refused.contains("not an array of tasks") && refused.contains(told), "{body}: {refused}");
        }
    }

    #[test]
    fn a_batch_and_its_tasks_are_bounded_before_they_are_whole() {
        let mut cutter = Cutter::new(false);
        let mut none = |_: usize, _: &[u8]| Ok(());
        let mut fed = cutter.feed(b"[1, \"", &mut none);
        let mut parts = 0;
        while fed.is_ok() {
            fed = cutter.feed(&[b'x'; 1 << 16], &mut none);
            parts += 1;
        }
        assert_eq!(fed.unwrap_err().to_string(), "task 1 of the batch: a task may have 1048576 bytes at most");
        assert_eq!(parts, 16);

        let endless = "1\n".repeat(MOST);
        assert_eq!(cut(&endless, true, 4096).unwrap().len(), MOST);
        let refused = cut(&format!("{endless}1\n"), true, 4096);
        assert!(matches!(refused, Err(Problem::TooLarge { limit: MOST, .. })));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<i64>().prop_map(Value::from), any::<String>().prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_array_is_cut_into_its_values(values in prop::collection::vec(any_json(), 0..6), size in 1usize..40) {
            let expected: Vec<String> = values.iter().map(Value::to_string).collect();
            prop_assert_eq!(cut(&json!(values).to_string(), false, size).unwrap(), expected.clone());
            prop_assert_eq!(cut(&format!("{:#}", json!(values)), false, size).unwrap().len(), expected.len());
            prop_assert_eq!(cut(&expected.join("\n"), true, size).unwrap(), expected);
        }

        #[test]
        fn no_bytes_can_hurt_it(body in prop::collection::vec(any::<u8>(), 0..300), lines in any::<bool>()) {
            let mut cutter = Cutter::new(lines);
            let mut none = |_: usize, _: &[u8]| Ok(());
            let _ = cutter.feed(&body, &mut none).and_then(|()| cutter.end(&mut none));
        }
    }
}
