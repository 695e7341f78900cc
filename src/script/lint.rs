//! Mistakes that rhai finds only when a line runs: names that nothing has, wrong numbers of arguments, code and
//! options that can never count.
//!
//! What is wrong for certain is an error, what is only odd is a warning, and where a name may be meant another way
//! (a method may be a function kept in a map) nothing is said: a false alarm costs more trust than a miss.

mod callable;
mod callbacks;
mod dead;
mod facts;
mod options;

use rhai::{AST, ASTNode, BinaryExpr, Engine, Expr, FnCallExpr, Namespace, OptimizationLevel, Position, Stmt};
use serde::Serialize;

use super::{Broken, Script, fields, load};
use crate::task::{did_you_mean, nearest};
use callable::{Arities, Natives};
use facts::Facts;
pub(super) use options::without_effect;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It fails when it runs, or is not used at all.
    Error,
    /// It runs, but hardly as it was meant.
    Warning,
}

/// One mistake and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// What kind of mistake, for programs: `unknown-function`.
    pub code: &'static str,
    #[serde(flatten)]
    pub at: Broken,
}

/// A task that a script sends by a name that is written out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub task: String,
    /// How many arguments it gets by position, and the names of the others; `None` when only a run can tell.
    pub arguments: Option<(usize, Vec<String>)>,
}

/// What is wrong with a task that a script sends, as a sentence; `None` when nothing is.
pub type Refusal<'a> = dyn Fn(&Sent) -> Option<String> + 'a;

/// Looks through scripts, with one engine for all of them.
pub struct Lint {
    engine: Engine,
    natives: Natives,
    options: &'static [(&'static str, &'static [&'static str])],
}

impl Lint {
    /// `engine` has all native modules that the scripts may call.
    pub fn new(mut engine: Engine) -> Self {
        // What the optimizer leaves out was written all the same.
        engine.set_optimization_level(OptimizationLevel::None);
        let natives = Natives::of(&engine);
        Self { engine, natives, options: &[] }
    }

    /// Knows native functions whose last argument may be a map of options, each with the names of these.
    pub fn with_options(self, options: &'static [(&'static str, &'static [&'static str])]) -> Self {
        Self { options, ..self }
    }

    /// What is wrong in the file of `script` beyond what loading it has found, by line. Its imports are looked at
    /// only for what they offer. `refusal` knows which tasks can be sent.
    pub fn look(&self, script: &Script, refusal: &Refusal<'_>) -> Vec<Finding> {
        let Some(source) = script.sources.get(&script.file) else { return Vec::new() };
        // It was compiled before; without its optimizer rhai may find it too deep.
        let Ok(ast) = load::compile(&self.engine, &script.file, source) else { return Vec::new() };
        let facts = Facts::of(&ast, script);
        let mut looking = Looking { lint: self, script, facts: &facts, refusal, findings: Vec::new() };
        looking.calls(&ast);
        for (at, message) in dead::unreachable(&ast) {
            looking.add(Severity::Warning, "unreachable-code", at, message.to_owned());
        }
        looking.unused();
        for declaration in &script.declarations {
            for message in &declaration.useless {
                let at = script.broken(declaration.line, Some(declaration.column), message.clone());
                looking.findings.push(Finding { severity: Severity::Warning, code: "useless-option", at });
            }
        }
        let mut findings = looking.findings;
        findings.sort_by_key(|finding| (finding.at.line, finding.at.column));
        findings.dedup();
        findings
    }
}

const METHOD: &str = "there is no method";

/// One file that is looked through.
struct Looking<'a> {
    lint: &'a Lint,
    script: &'a Script,
    facts: &'a Facts,
    refusal: &'a Refusal<'a>,
    findings: Vec<Finding>,
}

impl<'a> Looking<'a> {
    fn calls(&mut self, ast: &AST) {
        ast.walk(&mut |path: &[ASTNode<'_>]| {
            match path.last() {
                Some(ASTNode::Expr(Expr::FnCall(call, at)) | ASTNode::Stmt(Stmt::FnCall(call, at))) => {
                    self.call(call, *at);
                }
                Some(ASTNode::Expr(Expr::MethodCall(call, at))) => self.method(call, *at),
                Some(ASTNode::Expr(Expr::Dot(link, ..))) => self.dot(link),
                Some(ASTNode::Expr(Expr::Variable(variable, _, at))) => self.variable(&variable.1, &variable.2, *at),
                _ => {}
            }
            true
        });
    }

    fn call(&mut self, call: &FnCallExpr, at: Position) {
        let name = call.name.as_str();
        if call.op_token.is_some() || !is_plain(name) {
            return;
        }
        if !call.namespace.is_empty() {
            return self.of_module(call, at);
        }
        if let ("Fn", [Expr::StringConstant(function, at)]) = (name, &call.args[..]) {
            return self.pointer(function, *at);
        }
        if callable::TAKES_ANYTHING.contains(&name) {
            return;
        }
        if !self.facts.functions.takes(name, call.args.len()) {
            self.options(name, &call.args);
            if let Some((task, rest)) = call.args.split_first() {
                self.sent(name, task, rest);
            }
        }
        let known: [&'a Arities; 2] = [&self.facts.functions, self.lint.natives.global()];
        if self.facts.variables.contains(name) && !known.iter().any(|known| known.has(name)) {
            let message = format!("`{name}` is a variable: what it holds is called by `{name}.call(…)`");
            return self.add(Severity::Error, "unknown-function", at, message);
        }
        self.judge(call, at, &known, "there is no function");
    }

    fn of_module(&mut self, call: &FnCallExpr, at: Position) {
        let path = path(&call.namespace);
        if path == ["global"] {
            let message = format!("`global` has constants and no functions: write `{0}` for `global::{0}`", call.name);
            return self.add(Severity::Error, "unknown-function", at, message);
        }
        self.options(&format!("{}::{}", path.join("::"), call.name), &call.args);
        let known = match callable::imported(self.script, &path) {
            Some(imported) => callable::functions(imported),
            None => match self.lint.natives.module(&path) {
                Some(native) => native.clone(),
                None => return,
            },
        };
        self.judge(call, at, &[&known], &format!("the module `{}` has no function", path.join("::")));
    }

    // rhai looks for what has a path only when the line runs.
    fn variable(&mut self, name: &str, namespace: &Namespace, at: Position) {
        let path = path(namespace);
        let message = match callable::imported(self.script, &path) {
            Some(imported) if !imported.contains_var(name) => {
                let module = path.join("::");
                format!("the module `{module}` exports no `{name}`: write `export const {name} = …;` there")
            }
            None if path == ["global"] && !self.facts.constants.contains(name) => {
                let near = nearest(name, self.facts.constants.iter().map(String::as_str));
                format!("the file has no constant `{name}`{}", did_you_mean(near))
            }
            _ => return,
        };
        self.add(Severity::Error, "unknown-constant", at, message);
    }

    fn pointer(&mut self, function: &str, at: Position) {
        let known: [&'a Arities; 3] = [&self.facts.functions, &self.facts.methods, self.lint.natives.global()];
        if is_plain(function) && !known.iter().any(|known| known.has(function)) {
            let message = callable::unknown("there is no function", function, &known);
            self.add(Severity::Error, "unknown-function", at, message);
        }
    }

    fn method(&mut self, call: &FnCallExpr, at: Position) {
        let name = call.name.as_str();
        // A map may hold a function under any key that somebody writes.
        if callable::TAKES_ANYTHING.contains(&name) || self.facts.keys.contains(name) {
            return;
        }
        let known: [&'a Arities; 2] = [&self.facts.methods, self.lint.natives.methods()];
        self.judge(call, at, &known, METHOD);
        if !self.facts.methods.takes(name, call.args.len())
            && let Some((at, message)) = callbacks::too_long(call, &self.facts.functions)
        {
            self.add(Severity::Error, "wrong-arity", at, message);
        }
    }

    // `"math.add".delay([1, 2])`: what stands before the dot is the first argument.
    fn dot(&mut self, link: &BinaryExpr) {
        let first = match &link.rhs {
            Expr::Dot(next, ..) | Expr::Index(next, ..) => &next.lhs,
            only => only,
        };
        let Expr::MethodCall(call, _) = first else { return };
        if !self.facts.methods.takes(&call.name, call.args.len()) {
            self.options(&call.name, &call.args);
            self.sent(&call.name, &link.lhs, &call.args);
        }
    }

    fn judge(&mut self, call: &FnCallExpr, at: Position, known: &[&Arities], missing: &str) {
        let (name, given) = (call.name.as_str(), call.args.len());
        if !known.iter().any(|known| known.has(name)) {
            let message = callable::unknown(missing, name, known);
            self.add(Severity::Error, "unknown-function", at, message);
        } else if !known.iter().any(|known| known.takes(name, given)) {
            let mut message = callable::wrong_arity(name, given, known);
            if missing == METHOD && self.facts.methods.takes(name, given + 1) {
                message += ", because what stands before the dot is `this`";
            }
            self.add(Severity::Error, "wrong-arity", at, message);
        }
    }

    fn sent(&mut self, name: &str, task: &Expr, rest: &[Expr]) {
        let (true, Expr::StringConstant(task, at)) = (matches!(name, "delay" | "apply"), task) else { return };
        if let ("delay", [Expr::Map(_, at)]) = (name, rest) {
            let message =
                format!("`delay` takes a list of arguments: write `apply(\"{task}\", [], #{{ … }})` for options");
            return self.add(Severity::Error, "unsendable-task", *at, message);
        }
        let sent = Sent { task: task.to_string(), arguments: facts::arguments(rest) };
        if let Some(message) = (self.refusal)(&sent) {
            self.add(Severity::Error, "unsendable-task", *at, message);
        }
    }

    fn options(&mut self, function: &str, arguments: &[Expr]) {
        let known = self.lint.options.iter().find(|(name, _)| *name == function);
        let (Some((_, known)), Some(Expr::Map(options, _))) = (known, arguments.last()) else { return };
        for (option, _) in options.0.iter().filter(|(option, _)| !known.contains(&option.name.as_str())) {
            let message = format!("`{function}`: {}", fields::no_option(&option.name, known));
            self.add(Severity::Error, "unknown-option", option.pos, message);
        }
    }

    fn unused(&mut self) {
        for function in self.script.functions.iter().filter(|function| function.private) {
            if !self.facts.uses.contains(function.name.as_str()) {
                let message = format!("nothing in this file calls the private function `{}`", function.name);
                let at = self.script.broken(function.line, None, message);
                self.findings.push(Finding { severity: Severity::Warning, code: "unused-function", at });
            }
        }
    }

    fn add(&mut self, severity: Severity, code: &'static str, at: Position, message: String) {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let at = match at.line() {
            Some(line) => self.script.broken(number(line), at.position().map(number), message),
            None => Broken::whole(&self.script.file, message),
        };
        self.findings.push(Finding { severity, code, at });
    }
}

fn path(namespace: &Namespace) -> Vec<&str> {
    namespace.path.iter().map(|part| part.as_str()).collect()
}

/// A name that somebody wrote, and no operator, closure or property of rhai's own.
fn is_plain(name: &str) -> bool {
    name.starts_with(|first: char| first.is_alphabetic() || first == '_') && !name.contains('$')
}

#[cfg(test)]
mod tests;
