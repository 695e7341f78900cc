//! What a file says about its names, gathered before any of them is judged.

use std::collections::HashSet;

use rhai::{AST, ASTFlags, ASTNode, Expr, FnNamespace, Stmt};

use super::callable::Arities;
use crate::script::Script;

#[derive(Default)]
pub(super) struct Facts {
    /// What the file itself can call by name.
    pub functions: Arities,
    /// The same and the functions of its imports as methods: before the dot stands `this`, which is no argument.
    pub methods: Arities,
    /// What it can read as `global::NAME`.
    pub constants: HashSet<String>,
    /// Names of variables and parameters.
    pub variables: HashSet<String>,
    /// Every word under which a map may hold something.
    pub keys: HashSet<String>,
    /// Every word that may stand for a function of the file.
    pub uses: HashSet<String>,
}

impl Facts {
    pub fn of(ast: &AST, script: &Script) -> Self {
        let mut facts = Self::default();
        for function in ast.iter_fn_def() {
            let arity = function.params.len();
            facts.variables.extend(function.params.iter().map(ToString::to_string));
            if function.this_type.is_none() {
                facts.functions.add(&function.name, arity);
            }
            facts.methods.add(&function.name, arity);
        }
        for (_, module) in script.module.iter_sub_modules() {
            for (namespace, _, name, arity, _) in module.iter_script_fn_info() {
                facts.methods.add(name, arity);
                if namespace == FnNamespace::Global {
                    facts.functions.add(name, arity);
                }
            }
        }
        for line in ast.statements() {
            if let Stmt::Var(variable, flags, _) = line
                && flags.intersects(ASTFlags::CONSTANT)
            {
                facts.constants.insert(variable.0.name.to_string());
            }
        }
        ast.walk(&mut |path: &[ASTNode<'_>]| {
            match path.last() {
                Some(ASTNode::Expr(node)) => facts.read(node),
                Some(ASTNode::Stmt(node)) => facts.read_statement(node),
                _ => {}
            }
            true
        });
        facts.read_imports(script);
        facts
    }

    fn read(&mut self, node: &Expr) {
        match node {
            Expr::FnCall(call, _) | Expr::MethodCall(call, _) => {
                self.uses.insert(call.name.to_string());
            }
            Expr::Variable(variable, ..) => {
                self.uses.insert(variable.1.to_string());
            }
            Expr::StringConstant(text, _) => {
                self.uses.insert(text.to_string());
                self.keys.insert(text.to_string());
            }
            Expr::Property(property, _) => {
                self.keys.insert(property.2.to_string());
            }
            Expr::Map(map, _) => self.keys.extend(map.0.iter().map(|(name, _)| name.name.to_string())),
            _ => {}
        }
    }

    fn read_statement(&mut self, node: &Stmt) {
        match node {
            Stmt::FnCall(call, _) => {
                self.uses.insert(call.name.to_string());
            }
            Stmt::Var(variable, ..) => {
                self.variables.insert(variable.0.name.to_string());
            }
            Stmt::For(each, _) => {
                self.variables.insert(each.0.name.to_string());
            }
            _ => {}
        }
    }

    // Maps that come from an import have keys that are written there. Their words are enough.
    fn read_imports(&mut self, script: &Script) {
        let others = script.sources().filter(|(file, _)| *file != script.file);
        for (_, source) in others {
            let words = source.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            self.keys.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
        }
    }
}

/// What a task gets whose call of `delay` or `apply` goes on like this after its name; `None` when only a run can
/// tell.
pub(super) fn arguments(rest: &[Expr]) -> Option<(usize, Vec<String>)> {
    let count = match rest.first() {
        None => 0,
        Some(Expr::Array(items, _)) => items.len(),
        Some(_) => return None,
    };
    match rest.get(1) {
        None => Some((count, Vec::new())),
        Some(Expr::Map(options, _)) => match options.0.iter().find(|(name, _)| name.as_str() == "kwargs") {
            None => Some((count, Vec::new())),
            Some((_, Expr::Map(named, _))) => {
                Some((count, named.0.iter().map(|(name, _)| name.name.to_string()).collect()))
            }
            Some(_) => None,
        },
        Some(_) => None,
    }
}
