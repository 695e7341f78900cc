//! Where a page of the history ended, as text for whoever asks for the next one.

use crate::store::Error;

/// A place in one of the orders that runs are listed in. The next page begins behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// By when it was stored: its row.
    Stored(i64),
    /// By when it ended, then its row.
    Ended(i64, i64),
    /// By when it became ready: its turn.
    Ready(i64),
}

impl Place {
    /// Reads what its `Display` wrote.
    ///
    /// # Errors
    /// `BadCursor`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::read(text).ok_or_else(|| Error::BadCursor { cursor: text.to_owned() })
    }

    fn read(text: &str) -> Option<Self> {
        let number = |text: &str| text.parse().ok();
        let (order, rest) = text.split_at_checked(1)?;
        let place = match order {
            "s" => Self::Stored(number(rest)?),
            "e" => {
                let (ended, seq) = rest.split_once('.')?;
                Self::Ended(number(ended)?, number(seq)?)
            }
            "r" => Self::Ready(number(rest)?),
            _ => return None,
        };
        // Each place is written in one way.
        (place.to_string() == text).then_some(place)
    }

    /// Both are of one order.
    pub fn is_of(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stored(seq) => write!(out, "s{seq}"),
            Self::Ended(at, seq) => write!(out, "e{at}.{seq}"),
            Self::Ready(turn) => write!(out, "r{turn}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places() -> impl Strategy<Value = Place> {
        prop_oneof![
            any::<i64>().prop_map(Place::Stored),
            any::<(i64, i64)>().prop_map(|(at, seq)| Place::Ended(at, seq)),
            any::<i64>().prop_map(Place::Ready),
        ]
    }

    proptest! {
        #[test]
        fn every_place_is_read_back(place in places()) {
            prop_assert_eq!(Place::parse(&place.to_string()).unwrap(), place);
        }

        #[test]
        fn what_is_read_was_written(text in ".{0,12}|[ser][-+0-9. ]{0,24}") {
            if let Ok(place) = Place::parse(&text) {
                prop_assert_eq!(place.to_string(), text);
            }
        }
    }
}
