//! Closures that are handed to functions of lists and maps, which call them.

use rhai::{Expr, FnCallExpr, FnPtr, Position, Stmt};

use super::callable::Arities;

/// The most arguments that such a function has for what it calls: an item and its index, or a key; of those that
/// reduce also what came of it so far. `None` for another function.
fn most(name: &str) -> Option<usize> {
    match name {
        "reduce" | "reduce_rev" => Some(3),
        "map" | "filter" | "for_each" | "find" | "find_map" | "some" | "all" | "drain" | "retain" | "sort"
        | "dedup" => Some(2),
        _ => None,
    }
}

/// Where a closure stands among the arguments of `call` that takes more than it will get, and what that means.
/// `functions` are those of the file, closures among them.
pub(super) fn too_long(call: &FnCallExpr, functions: &Arities) -> Option<(Position, String)> {
    let (name, most) = (call.name.as_str(), most(call.name.as_str())?);
    let closures = call.args.iter().filter_map(|argument| closure(argument, functions));
    let (at, taken) = closures.into_iter().find(|(_, taken)| *taken > most)?;
    Some((at, format!("`{name}` calls this with {most} arguments at most; it takes {taken}")))
}

/// Where the closure stands that `argument` is, and how many arguments it takes.
fn closure(argument: &Expr, functions: &Arities) -> Option<(Position, usize)> {
    match argument {
        Expr::DynamicConstant(value, at) => {
            let pointer = value.read_lock::<FnPtr>().filter(|pointer| pointer.is_anonymous())?;
            Some((*at, functions.most(pointer.fn_name())?))
        }
        // What it takes from around it is given to it before its own arguments.
        Expr::Stmt(block) => match block.statements() {
            [Stmt::Share(_), Stmt::Expr(curried)] => match &**curried {
                Expr::FnCall(curry, _) if curry.name == "curry" => {
                    let (at, taken) = closure(curry.args.first()?, functions)?;
                    Some((at, taken.checked_sub(curry.args.len() - 1)?))
                }
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}
