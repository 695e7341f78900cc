//! Whose values they are: one store of small values is shared by everybody, each with names of its own.

/// Whose values they are. Two spaces may have the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Space {
    /// The project's own scripts, all of `tasks/`.
    Tasks,
    /// The scripts of the plugin of that name.
    Plugin(String),
    /// umbel's own, which no script reaches.
    Own,
}

impl Space {
    /// The space of a script that belongs to `plugin`, or to the project.
    pub fn of(plugin: Option<&str>) -> Self {
        plugin.map_or(Self::Tasks, |name| Self::Plugin(name.to_owned()))
    }

    /// The key under which the store keeps what this space calls `key`.
    // No name of a plugin has a colon, so that no two spaces meet.
    pub fn key(&self, key: &str) -> String {
        match self {
            Self::Tasks => format!("tasks:{key}"),
            Self::Plugin(name) => format!("plugin:{name}:{key}"),
            Self::Own => format!("umbel:{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_spaces_meet() {
        let plugin = |name: &str| Space::of(Some(name));
        let keys = [
            Space::of(None).key("x"),
            plugin("x").key("x"),
            plugin("tasks").key("x"),
            Space::of(None).key("plugin:x:x"),
            Space::Own.key("x"),
        ];

        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "{key}");
        }
    }
}
