//! The one line about what dead processes left behind.

use tracing::{info, warn};

/// Tells that processes died with `again` tasks, which run again, and with `poisoned` ones, which do not.
pub fn tell(again: u64, poisoned: u64) {
    match sentence(again, poisoned) {
        Some(sentence) if poisoned > 0 => warn!(again, poisoned, "{sentence}"),
        Some(sentence) => info!(again, poisoned, "{sentence}"),
        None => {}
    }
}

fn sentence(again: u64, poisoned: u64) -> Option<String> {
    let run_again = match again {
        0 => None,
        1 => Some("1 task of a process that died runs again".to_owned()),
        many => Some(format!("{many} tasks of a process that died run again")),
    };
    match (run_again, poisoned) {
        (again, 0) => again,
        (None, 1) => Some("1 task of a process that died is poisoned".to_owned()),
        (None, many) => Some(format!("{many} tasks of a process that died are poisoned")),
        (Some(again), 1) => Some(format!("{again}; 1 is poisoned")),
        (Some(again), many) => Some(format!("{again}; {many} are poisoned")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_sentence() {
        let said = |again, poisoned| sentence(again, poisoned).unwrap_or_default();

        assert_eq!(said(0, 0), "");
        assert_eq!(said(1, 0), "1 task of a process that died runs again");
        assert_eq!(said(3, 1), "3 tasks of a process that died run again; 1 is poisoned");
        assert_eq!(said(0, 2), "2 tasks of a process that died are poisoned");
    }
}
