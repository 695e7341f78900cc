//! Prometheus' text format, as far as single numbers need it (its document "Exposition formats", 0.0.4).

use std::fmt::{Display, Write};

/// One number of a family: its labels, by name and value, and itself.
pub type Number<'a> = (Vec<(&'static str, &'a str)>, f64);

/// Numbers as they are at this moment, written behind what a recorder has counted.
#[derive(Debug, Default)]
pub struct Page(pub String);

impl Page {
    /// A number that goes up and down.
    pub fn gauge<'a>(&mut self, name: &str, help: &str, numbers: impl IntoIterator<Item = Number<'a>>) {
        self.family(name, help, "gauge", numbers);
    }

    /// A number that only grows.
    pub fn counter(&mut self, name: &str, help: &str, number: f64) {
        self.family(name, help, "counter", [(vec![], number)]);
    }

    fn family<'a>(&mut self, name: &str, help: &str, kind: &str, numbers: impl IntoIterator<Item = Number<'a>>) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        for (labels, number) in numbers {
            let labels: Vec<String> =
                labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            self.line(format_args!("{name}{labels} {number}"));
        }
    }

    fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("a text takes every line");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_its_head_and_a_line_a_number() {
        let mut page = Page::default();

        page.gauge("a_b", "What it is", [(vec![("queue", "q\"\\\n"), ("state", "한")], 2.0), (vec![], 0.5)]);
        page.counter("c_total", "How often", 3.0);

        let expected = "# HELP a_b What it is\n# TYPE a_b gauge\na_b{queue=\"q\\\"\\\\\\n\",state=\"한\"} 2\na_b 0.5\n\
                        # HELP c_total How often\n# TYPE c_total counter\nc_total 3\n";
        assert_eq!(page.0, expected);
    }
}
