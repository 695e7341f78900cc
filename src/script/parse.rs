//! From text to code, with bounds on what that takes: rhai's compiler has none but on nesting, and nothing ends it.
//!
//! It asks for each token, so a token is where it is stopped. What follows the last token, the optimizer, takes a time
//! that grows with the size of the file, but for one thing: each arm of a `switch` is looked for in all of them.

use std::cell::Cell;

use rhai::{AST, Engine, LexError, ParseErrorType, Position, Token};

use super::limit;

/// The most arms of `switch` in one file.
const MAX_ARMS: usize = 5_000;

thread_local! {
    static ARMS: Cell<usize> = const { Cell::new(0) };
    /// Why what this thread compiles is not compiled further.
    static REFUSED: Cell<Option<Refused>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
enum Refused {
    Arms,
    Limit,
}

/// Lets `engine` ask at each token.
pub(super) fn bound(engine: &mut Engine) {
    // What a token is may change between versions of rhai, so it warns; ours is exact.
    #[expect(deprecated)]
    engine.on_parse_token(|token, _position, _state| {
        let arms = ARMS.get() + usize::from(token == Token::DoubleArrow);
        ARMS.set(arms);
        let refused = match REFUSED.get() {
            None if arms > MAX_ARMS => Refused::Arms,
            None if limit::step().is_err() => Refused::Limit,
            None => return token,
            Some(refused) => refused,
        };
        REFUSED.set(Some(refused));
        // It ends what is compiled; what it says is lost on some of the ways out.
        Token::LexError(Box::new(LexError::Runtime(String::new())))
    });
}

/// Compiles `source` within the limits of the script on this thread.
///
/// # Errors
/// What is wrong with it, and where.
pub(super) fn parse(engine: &Engine, source: &str) -> Result<AST, (Position, String)> {
    ARMS.set(0);
    REFUSED.set(None);
    engine.compile(source).map_err(|error| {
        let message = match REFUSED.take() {
            None => in_words(error.err_type()),
            Some(Refused::Arms) => format!("a file has at most {MAX_ARMS} arms of `switch`: keep so many in a map"),
            Some(Refused::Limit) => "to compile this file takes too much time or memory: take it apart".to_owned(),
        };
        (error.position(), message)
    })
}

fn in_words(error: &ParseErrorType) -> String {
    match error {
        ParseErrorType::Reserved(word) => format!("`{word}` is a word of the language: choose another name"),
        ParseErrorType::VariableUndefined(name) => format!(
            "there is no variable `{name}` here: a function sees its parameters, its own variables and, as \
             `global::NAME`, constants of the file"
        ),
        ParseErrorType::ModuleUndefined(name) => {
            format!("there is no module `{name}`: import it at the top of the file")
        }
        ParseErrorType::ExprTooDeep => "this is nested too deeply, and each operator of a long line counts: take it \
                                        apart, with variables for its pieces"
            .to_owned(),
        other => {
            let text = other.to_string();
            let mut letters = text.chars();
            letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
        }
    }
}
