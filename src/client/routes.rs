//! Where tasks go by their names: the table `[routes]` of `umbel.toml`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wildmatch::WildMatch;

use crate::task::QueueName;

/// Where the tasks of one pattern go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The queue of a task whose sender names none; it counts more than the one that the task declares.
    pub queue: QueueName,
    /// Somebody else has the task, such as a worker in Python: it is sent unseen, and nobody here runs it.
    #[serde(default)]
    pub remote: bool,
}

/// Routes by patterns of task names, in which `*` stands for anything and `?` for one letter.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    /// The one that says most about a name first, so that the first match counts.
    ranked: Vec<(WildMatch, Route)>,
}

impl Routes {
    /// The route of `task`: the pattern that is its whole name, else the matching one with the most letters besides
    /// stars and question marks, else the first of those by the alphabet. `None` when none matches.
    pub fn of(&self, task: &str) -> Option<&Route> {
        self.ranked.iter().find(|(pattern, _)| pattern.matches(task)).map(|(_, route)| route)
    }

    /// Each route with its pattern, the one that says most first.
    pub fn iter(&self) -> impl Iterator<Item = (String, &Route)> {
        self.ranked.iter().map(|(pattern, route)| (pattern.to_string(), route))
    }

    fn by_pattern(&self) -> BTreeMap<String, &Route> {
        self.iter().collect()
    }
}

impl PartialEq for Routes {
    fn eq(&self, other: &Self) -> bool {
        self.by_pattern() == other.by_pattern()
    }
}

impl Eq for Routes {}

impl FromIterator<(String, Route)> for Routes {
    fn from_iter<I: IntoIterator<Item = (String, Route)>>(routes: I) -> Self {
        let letters = |pattern: &str| pattern.chars().filter(|&c| c != '*' && c != '?').count();
        let mut routes: Vec<(String, Route)> = routes.into_iter().collect();
        routes.sort_by_cached_key(|(pattern, _)| {
            (Reverse(letters(pattern)), pattern.contains(['*', '?']), pattern.clone())
        });
        Self { ranked: routes.into_iter().map(|(pattern, route)| (WildMatch::new(&pattern), route)).collect() }
    }
}

impl Serialize for Routes {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        self.by_pattern().serialize(output)
    }
}

impl<'de> Deserialize<'de> for Routes {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let routes = BTreeMap::<Pattern, Route>::deserialize(input)?;
        Ok(routes.into_iter().map(|(Pattern(pattern), route)| (pattern, route)).collect())
    }
}

// A key is checked where it is read, so that the error knows its place.
#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Pattern(String);

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(pattern: String) -> Result<Self, String> {
        if pattern.is_empty() || pattern.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!("`{pattern}` is no pattern of task names: write it as in `reports.*`"));
        }
        Ok(Self(pattern))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(table: &str) -> Routes {
        toml::from_str(table).unwrap()
    }

    #[test]
    fn what_says_most_about_a_name_counts() {
        let routes = routes(
            "\"*\" = { queue = \"rest\" }\n\"reports.*\" = { queue = \"python\", remote = true }\n\
             \"reports.daily\" = { queue = \"daily\" }\n\"reports.d*\" = { queue = \"d\" }\n\
             \"reports.daily*\" = { queue = \"long\" }\n\"*.weekl?\" = { queue = \"weekly\" }",
        );
        let queue = |task| routes.of(task).unwrap().queue.as_str();

        for (task, expected) in [
            ("reports.daily", "daily"),
            ("reports.daily.all", "long"),
            ("reports.dusk", "d"),
            ("reports.x", "python"),
            ("reports.weekly", "python"),
            ("math.weekly", "weekly"),
            ("math.add", "rest"),
            ("reports", "rest"),
        ] {
            assert_eq!(queue(task), expected, "{task}");
        }
        assert!(routes.of("reports.x").unwrap().remote && !routes.of("reports.dusk").unwrap().remote);
        let remote: Vec<String> = routes.iter().filter(|(_, route)| route.remote).map(|(pattern, _)| pattern).collect();
        assert_eq!(remote, ["reports.*"]);
        assert_eq!(Routes::default().of("math.add"), None);
    }

    #[test]
    fn what_is_no_route_is_refused() {
        for table in ["\"\" = { queue = \"q\" }", "\"a b\" = { queue = \"q\" }", "a = {}", "a = { remote = true }"] {
            assert!(toml::from_str::<Routes>(table).is_err(), "{table}");
        }
    }
}
