//! "Did you mean …?": the name that a wrong one was perhaps meant to be.

/// How alike two names are that are called near; 1 is the same.
const NEAR: f64 = 0.8;

/// The longest name that is compared, in bytes: comparing takes the product of two lengths. Nobody means a longer one.
const LONGEST: usize = 200;

/// The one of `names` that `name` was perhaps meant to be; `None` when nothing is near, or it is longer than a name is.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let scored = names.into_iter().filter(|known| known.len() <= LONGEST).map(|known| (likeness(name, known), known));
    let likeliest = scored.max_by(|(one, _), (other, _)| one.total_cmp(other));
    likeliest.filter(|(score, _)| *score >= NEAR).map(|(_, known)| known)
}

// The last parts alone count a little less, so that `add` finds `math.add`, and `mail.add` first of all `mail.ad`.
fn likeness(name: &str, known: &str) -> f64 {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_lowercase();
    let whole = strsim::jaro_winkler(&name.to_lowercase(), &known.to_lowercase());
    whole.max(strsim::jaro_winkler(&last(name), &last(known)) - 0.1)
}

/// The end of an error about a wrong name: the question, or nothing when nothing is near.
pub fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or(String::new(), |name| format!("; did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, names: &[&str], meant: Option<&str>) {
        assert_eq!(nearest(name, names.iter().copied()), meant, "{name}");
    }

    #[test]
    fn a_slip_finds_the_name() {
        check("math.ad", &["math.add", "math.mul"], Some("math.add"));
        check("MATH.Add", &["math.add", "math.mul"], Some("math.add"));
        check("add", &["math.add", "mail.send"], Some("math.add"));
        check("maht.add", &["math.add", "math.mul"], Some("math.add"));
        check("mail.add", &["math.add", "mail.ad"], Some("mail.ad"));
        check("report.nightly", &["math.add", "reports.nightly"], Some("reports.nightly"));
        check("arg", &["args", "kwargs"], Some("args"));
        check("slot", &["store", "slots"], Some("slots"));
    }

    #[test]
    fn what_is_far_is_not_suggested() {
        check("zebra", &["math.add", "math.mul"], None);
        let long = "x".repeat(201);
        check(&long, &[&long], None);
        check(&long[1..], &[&long, &long[1..]], Some(&long[1..]));
        check("", &["math.add"], None);
        check("add", &[], None);
    }
}
