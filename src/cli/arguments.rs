//! A task's arguments as they are typed: JSON where it parses, else text; `name=value` goes by name.

use std::collections::BTreeMap;

use crate::task::{Json, to_json};

/// One name was given two values.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is given twice")]
pub(super) struct Twice {
    name: String,
}

/// The words as a JSON array and a JSON object.
pub(super) fn read(words: Vec<String>) -> Result<(Json, Json), Twice> {
    let mut args = Vec::new();
    let mut kwargs = BTreeMap::new();
    for word in &words {
        match word.split_once('=') {
            Some((name, text)) if is_name(name) => {
                if kwargs.insert(name, value(text)).is_some() {
                    return Err(Twice { name: name.to_owned() });
                }
            }
            _ => args.push(value(word)),
        }
    }
    Ok((to_json(&args), to_json(&kwargs)))
}

// What could name a parameter; `http://x?a=b` could not.
fn is_name(text: &str) -> bool {
    let inner = |c: char| c == '_' || c.is_alphanumeric();
    text.chars().all(inner) && text.chars().next().is_some_and(|first| !first.is_numeric())
}

fn value(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|_| to_json(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], expected: (&str, &str)) {
        let (args, kwargs) = read(words.iter().map(|&word| word.to_owned()).collect()).unwrap();

        assert_eq!((args.get(), kwargs.get()), expected, "{words:?}");
    }

    #[test]
    fn an_argument_is_json_where_it_parses() {
        check(&["10", "-3", "1.50", "true", "null"], ("[10,-3,1.50,true,null]", "{}"));
        check(&["[1,2]", r#"{"a": 1}"#, r#""10""#], (r#"[[1,2],{"a": 1},"10"]"#, "{}"));
        check(&["123456789012345678901234567890"], ("[123456789012345678901234567890]", "{}"));
        check(&["세계", "007", "", "10 apples", "[1,"], (r#"["세계","007","","10 apples","[1,"]"#, "{}"));
    }

    #[test]
    fn name_and_value_go_by_name() {
        check(&["y=3", "name=Ann", "이름=철수", "_x="], ("[]", r#"{"_x":"","name":"Ann","y":3,"이름":"철수"}"#));
        check(&["1", "y=a=b", "2"], ("[1,2]", r#"{"y":"a=b"}"#));
    }

    #[test]
    fn what_is_no_name_is_text() {
        check(
            &["http://x?a=b", "=5", "1a=2", "a-b=c", r#""a=b""#],
            (r#"["http://x?a=b","=5","1a=2","a-b=c","a=b"]"#, "{}"),
        );
    }

    #[test]
    fn a_name_has_one_value() {
        assert_eq!(read(vec!["y=1".into(), "y=2".into()]).unwrap_err(), Twice { name: "y".into() });
    }
}
