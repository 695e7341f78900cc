//! Lines that are never reached.

use rhai::{AST, ASTFlags, ASTNode, Expr, Position, Stmt, StmtBlock};

/// Where a line follows one that leaves its block, and which one that is.
pub(super) fn unreachable(ast: &AST) -> Vec<(Position, &'static str)> {
    let mut found = Vec::new();
    // rhai gives no list of the lines of a function; it walks them one after the other.
    let mut before: Option<(&'static str, Option<usize>, Place)> = None;
    let bodies = bodies(ast);
    ast.walk(&mut |path: &[ASTNode<'_>]| {
        let Some(node) = path.last() else { return true };
        match node {
            ASTNode::Stmt(node) => {
                found.extend(blocks(node).into_iter().filter_map(after_leaving));
                if path.len() == 1 && !is_nothing(node) {
                    let (body, at) = (body_of(node.position(), &bodies), place(node.position()));
                    // The first line is enough. A closure that is one expression has no place of its own: what is
                    // walked later and stands before is one.
                    match before.take().filter(|(_, of, left_at)| *of == body && *left_at < at) {
                        Some((message, ..)) => found.push((node.position(), message)),
                        None => before = leaves(node).map(|message| (message, body, at)),
                    }
                }
            }
            ASTNode::Expr(Expr::Stmt(block)) => found.extend(after_leaving(block.statements())),
            _ => {}
        }
        true
    });
    found.retain(|(at, _)| !at.is_none());
    found
}

/// Where each function begins and ends, closures too.
fn bodies(ast: &AST) -> Vec<(Place, Place)> {
    ast.iter_fn_def()
        .map(|function| (place(function.body.start_position()), place(function.body.end_position())))
        .collect()
}

type Place = (Option<usize>, Option<usize>);

fn place(at: Position) -> Place {
    (at.line(), at.position())
}

/// The innermost function around a place, by its index.
fn body_of(at: Position, bodies: &[(Place, Place)]) -> Option<usize> {
    let at = place(at);
    let around = bodies.iter().enumerate().filter(|(_, (start, end))| *start <= at && at <= *end);
    around.max_by_key(|(_, (start, _))| *start).map(|(index, _)| index)
}

fn is_nothing(node: &Stmt) -> bool {
    matches!(node, Stmt::Noop(_) | Stmt::Share(_))
}

fn blocks(node: &Stmt) -> Vec<&[Stmt]> {
    match node {
        Stmt::If(flow, _) | Stmt::While(flow, _) | Stmt::Do(flow, ..) | Stmt::TryCatch(flow, _) => {
            vec![flow.body.statements(), flow.branch.statements()]
        }
        Stmt::For(each, _) => vec![each.2.body.statements()],
        Stmt::Block(block) => vec![block.statements()],
        _ => Vec::new(),
    }
}

fn after_leaving(statements: &[Stmt]) -> Option<(Position, &'static str)> {
    let (index, message) = statements.iter().enumerate().find_map(|(index, node)| Some((index, leaves(node)?)))?;
    let next = statements[index + 1..].iter().find(|node| !is_nothing(node))?;
    Some((next.position(), message))
}

/// Says of a line that nothing goes on behind it.
fn leaves(node: &Stmt) -> Option<&'static str> {
    let leaves_with = |flags: &ASTFlags, one, other| if flags.intersects(ASTFlags::BREAK) { one } else { other };
    let in_every_case =
        |leaves: bool| leaves.then_some("this is never reached: the lines before it leave in every case");
    match node {
        Stmt::Return(_, flags, _) => Some(leaves_with(
            flags,
            "this is never reached: the line before it throws",
            "this is never reached: the line before it returns",
        )),
        Stmt::BreakLoop(_, flags, _) => Some(leaves_with(
            flags,
            "this is never reached: the line before it breaks the loop",
            "this is never reached: the line before it continues the loop",
        )),
        Stmt::Block(block) => in_every_case(leave(block)),
        Stmt::If(flow, _) | Stmt::TryCatch(flow, _) => in_every_case(leave(&flow.body) && leave(&flow.branch)),
        Stmt::Switch(switch, _) => {
            let cases = &switch.1;
            let leaves = |case: &Expr| matches!(case, Expr::Stmt(block) if leave(block));
            in_every_case(cases.def_case.is_some() && cases.expressions.iter().all(|case| leaves(&case.rhs)))
        }
        Stmt::While(flow, _) if matches!(flow.expr, Expr::Unit(_) | Expr::BoolConstant(true, _)) => {
            (!flow.body.iter().any(breaks)).then_some("this is never reached: the loop before it has no end")
        }
        _ => None,
    }
}

fn leave(block: &StmtBlock) -> bool {
    block.iter().any(|node| leaves(node).is_some())
}

/// Whether it may break the loop that it stands in.
fn breaks(node: &Stmt) -> bool {
    let mut found = false;
    node.walk(&mut Vec::new(), &mut |path: &[ASTNode<'_>]| {
        let is_loop =
            |node: &ASTNode<'_>| matches!(node, ASTNode::Stmt(Stmt::While(..) | Stmt::Do(..) | Stmt::For(..)));
        if let Some((ASTNode::Stmt(Stmt::BreakLoop(_, flags, _)), around)) = path.split_last() {
            found |= flags.intersects(ASTFlags::BREAK) && !around.iter().any(is_loop);
        }
        true
    });
    found
}
