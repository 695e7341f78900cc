//! `log::` and the same words without it: lines in the log of the run.

use rhai::{Dynamic, Module};

use super::add;
use crate::script::{Level, Native, brief, host, outside};

/// More of a line no host keeps, in bytes.
const MAX_LINE: usize = 16 << 10;

pub(super) fn module(global: &mut Module) -> Module {
    let mut module = Module::new();
    for (name, level) in [("info", Level::Info), ("warn", Level::Warn), ("error", Level::Error)] {
        let signature = format!("{name}(text: any)");
        let say = move |text: Dynamic| -> Native<()> {
            let host = host(name)?;
            let text = brief(&text, MAX_LINE);
            Ok(outside(|| {
                host.log(level, &text);
                Ok(())
            })?)
        };
        add(&mut module, &signature, &format!("Keeps a line in the run's log: `log::{name}(\"half done\")`."), say);
        add(global, &signature, &format!("Keeps a line in the run's log: `{name}(\"half done\")`."), say);
    }
    module
}

#[cfg(test)]
mod tests {
    use crate::module::tests::Room;

    #[test]
    fn lines_reach_the_host_in_order() {
        let room = Room::default();

        room.run(r#"info("a"); log::warn(#{ b: 1 }); error([2]); print("c"); debug("d")"#).unwrap();

        assert_eq!(room.lines(), ["Info a", r#"Warn #{"b": 1}"#, "Error [2]", "Info c", "Info line 2: \"d\""]);
    }
}
