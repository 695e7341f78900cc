//! What can be called, and with how many arguments.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rhai::{Engine, Module};

use super::is_plain;
use crate::script::Script;
use crate::task::{did_you_mean, nearest};

/// Words of the language that look like functions and take what they are given.
pub(super) const TAKES_ANYTHING: [&str; 7] = ["Fn", "call", "curry", "type_of", "is_shared", "is_def_var", "is_def_fn"];

/// Functions by name, each with its numbers of arguments.
#[derive(Debug, Clone, Default)]
pub(super) struct Arities(BTreeMap<String, BTreeSet<usize>>);

impl Arities {
    pub fn add(&mut self, name: &str, arity: usize) {
        self.0.entry(name.to_owned()).or_default().insert(arity);
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn takes(&self, name: &str, given: usize) -> bool {
        self.0.get(name).is_some_and(|arities| arities.contains(&given))
    }

    /// The most arguments that it takes; `None` when there is no such function.
    pub fn most(&self, name: &str) -> Option<usize> {
        self.0.get(name)?.last().copied()
    }
}

/// What every script can call without importing it.
pub(super) struct Natives {
    /// By module; those of no module under the empty name.
    functions: HashMap<String, Arities>,
    /// The same as methods, whose first argument stands before the dot.
    methods: Arities,
    nothing: Arities,
}

impl Natives {
    pub fn of(engine: &Engine) -> Self {
        let read = |info: rhai::FuncInfo<'_>| {
            let (name, arity) = (info.metadata.name.to_string(), info.metadata.num_params);
            is_plain(&name).then(|| (info.namespace.to_string(), name, arity))
        };
        let mut natives = Self { functions: HashMap::new(), methods: Arities::default(), nothing: Arities::default() };
        for (module, name, arity) in engine.collect_fn_metadata(None, read, true) {
            if module.is_empty() && arity > 0 {
                natives.methods.add(&name, arity - 1);
            }
            natives.functions.entry(module).or_default().add(&name, arity);
        }
        natives
    }

    pub fn global(&self) -> &Arities {
        self.functions.get("").unwrap_or(&self.nothing)
    }

    pub fn methods(&self) -> &Arities {
        &self.methods
    }

    /// `None` when there is no such module.
    pub fn module(&self, path: &[&str]) -> Option<&Arities> {
        self.functions.get(&path.join("::"))
    }
}

/// What `script` imports under this name; `None` when it imports nothing so.
pub(super) fn imported<'a>(script: &'a Script, path: &[&str]) -> Option<&'a Module> {
    let (first, inner) = path.split_first()?;
    inner.iter().try_fold(script.module.get_sub_module(first)?, |module, name| module.get_sub_module(name))
}

/// The functions that a module of a script has.
pub(super) fn functions(module: &Module) -> Arities {
    let mut arities = Arities::default();
    for (_, _, name, arity, _) in module.iter_script_fn_info() {
        arities.add(name, arity);
    }
    arities
}

/// Says that nothing of `known` has this name; `missing` is how the sentence begins.
pub(super) fn unknown(missing: &str, name: &str, known: &[&Arities]) -> String {
    let names = known.iter().flat_map(|known| known.0.keys()).map(String::as_str);
    format!("{missing} `{name}`{}", did_you_mean(nearest(name, names)))
}

/// Says how many arguments `name` takes.
pub(super) fn wrong_arity(name: &str, given: usize, known: &[&Arities]) -> String {
    let arities: BTreeSet<usize> = known.iter().filter_map(|known| known.0.get(name)).flatten().copied().collect();
    let taken: Vec<String> = arities.iter().map(ToString::to_string).collect();
    let arguments = if taken == ["1"] { "argument" } else { "arguments" };
    let were = if given == 1 { "was" } else { "were" };
    format!("`{name}` takes {} {arguments}; {given} {were} given", taken.join(" or "))
}
