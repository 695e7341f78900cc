//! Mistakes that rhai finds only when a line runs: names that nothing has, wrong numbers of arguments, code and
//! options that can never count.
//!
//! What is wrong for certain is an error, what is only odd is a warning, and where a name may be meant another way
//! (a method may be a function kept in a map) nothing is said: a false alarm costs more trust than a miss.

mod callable;
mod dead;
mod facts;
mod options;

use rhai::{AST, ASTNode, Engine, Expr, FnCallExpr, OptimizationLevel, Position, Stmt};
use serde::Serialize;

use super::{Broken, Script, load};
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
}

impl Lint {
    /// `engine` has all native modules that the scripts may call.
    pub fn new(mut engine: Engine) -> Self {
        // What the optimizer leaves out was written all the same.
        engine.set_optimization_level(OptimizationLevel::None);
        let natives = Natives::of(&engine);
        Self { engine, natives }
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
        self.sent(call);
        let known: [&'a Arities; 2] = [&self.facts.functions, self.lint.natives.global()];
        if self.facts.variables.contains(name) && !known.iter().any(|known| known.has(name)) {
            let message = format!("`{name}` is a variable: what it holds is called by `{name}.call(…)`");
            return self.add(Severity::Error, "unknown-function", at, message);
        }
        self.judge(call, at, &known, "there is no function");
    }

    fn of_module(&mut self, call: &FnCallExpr, at: Position) {
        let path: Vec<&str> = call.namespace.path.iter().map(|part| part.as_str()).collect();
        let known = match callable::imported(self.script, &path) {
            Some(imported) => imported,
            None => match self.lint.natives.module(&path) {
                Some(native) => native.clone(),
                None => return,
            },
        };
        self.judge(call, at, &[&known], &format!("the module `{}` has no function", path.join("::")));
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
        self.judge(call, at, &known, "there is no method");
    }

    fn judge(&mut self, call: &FnCallExpr, at: Position, known: &[&Arities], missing: &str) {
        let (name, given) = (call.name.as_str(), call.args.len());
        if !known.iter().any(|known| known.has(name)) {
            let message = callable::unknown(missing, name, known);
            self.add(Severity::Error, "unknown-function", at, message);
        } else if !known.iter().any(|known| known.takes(name, given)) {
            let message = callable::wrong_arity(name, given, known);
            self.add(Severity::Error, "wrong-arity", at, message);
        }
    }

    fn sent(&mut self, call: &FnCallExpr) {
        let name = call.name.as_str();
        if !matches!(name, "delay" | "apply") || self.facts.functions.takes(name, call.args.len()) {
            return;
        }
        let Some(Expr::StringConstant(task, at)) = call.args.first() else { return };
        let sent = Sent { task: task.to_string(), arguments: facts::arguments(&call.args[1..]) };
        if let Some(message) = (self.refusal)(&sent) {
            self.add(Severity::Error, "unsendable-task", *at, message);
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

/// A name that somebody wrote, and no operator, closure or property of rhai's own.
fn is_plain(name: &str) -> bool {
    name.starts_with(|first: char| first.is_alphabetic() || first == '_') && !name.contains('$')
}

#[cfg(test)]
mod tests;
