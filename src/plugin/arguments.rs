//! Puts the arguments of a task in the order of its parameters, as Python does with `args` and `kwargs`.

use crate::task::nearest;

/// Arguments that a task does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ArgumentError {
    /// The parameter that is wrong or missing; `None` when there are too many.
    pub parameter: Option<String>,
    pub message: String,
}

impl ArgumentError {
    fn at(parameter: &str, message: String) -> Self {
        Self { parameter: Some(parameter.to_owned()), message }
    }
}

/// The arguments in the order of the overload that takes them. `overloads` are parameter names, fewest first.
pub(super) fn bind<V>(
    overloads: &[Vec<String>],
    args: Vec<V>,
    kwargs: Vec<(String, V)>,
) -> Result<Vec<V>, ArgumentError> {
    let given = args.len() + kwargs.len();
    let knows_all = |params: &&Vec<String>| kwargs.iter().all(|(name, _)| params.contains(name));
    let mut enough = overloads.iter().filter(|params| params.len() >= given);
    // Overloads differ in their number of parameters, so at most one fits; else the error is told by the likeliest.
    let likeliest = enough.clone().find(knows_all).or_else(|| enough.next()).or(overloads.last());
    place(likeliest.map_or(&[], Vec::as_slice), args, kwargs)
}

fn place<V>(params: &[String], args: Vec<V>, kwargs: Vec<(String, V)>) -> Result<Vec<V>, ArgumentError> {
    if args.len() > params.len() {
        let message = match params {
            [] => format!("takes no arguments, {} given", args.len()),
            _ => format!("takes at most {} arguments ({}), {} given", params.len(), list(params), args.len()),
        };
        return Err(ArgumentError { parameter: None, message });
    }
    let by_position = args.len();
    let mut places: Vec<Option<V>> = args.into_iter().map(Some).collect();
    places.resize_with(params.len(), || None);
    for (name, value) in kwargs {
        let Some(index) = params.iter().position(|param| *param == name) else {
            return Err(unexpected(&name, params));
        };
        if index < by_position {
            let message = format!("argument `{name}` is given twice: by position and by name");
            return Err(ArgumentError::at(&name, message));
        }
        if places[index].replace(value).is_some() {
            return Err(ArgumentError::at(&name, format!("argument `{name}` is given twice")));
        }
    }
    let placed = places.into_iter().zip(params);
    placed
        .map(|(value, param)| value.ok_or_else(|| ArgumentError::at(param, format!("missing argument `{param}`"))))
        .collect()
}

fn unexpected(name: &str, params: &[String]) -> ArgumentError {
    let hint = match nearest(name, params.iter().map(String::as_str)) {
        Some(near) => format!("; did you mean `{near}`?"),
        None if params.is_empty() => "; it takes none".to_owned(),
        None => format!("; it takes {}", list(params)),
    };
    ArgumentError::at(name, format!("unexpected argument `{name}`{hint}"))
}

fn list(params: &[String]) -> String {
    params.iter().map(|param| format!("`{param}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// `"a b"` are parameters, overloads are parted by `|`; `"1 2 x=3"` are arguments.
    fn check(overloads: &str, given: &str) -> Result<Vec<String>, String> {
        let overloads: Vec<Vec<String>> = overloads.split('|').map(words).collect();
        let (kwargs, args): (Vec<_>, Vec<_>) = words(given).into_iter().partition(|word| word.contains('='));
        let kwargs = kwargs.iter().map(|word| word.split_once('=').unwrap());
        bind(&overloads, args, kwargs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
            .map_err(|error| format!("{}: {}", error.parameter.as_deref().unwrap_or("-"), error.message))
    }

    #[test]
    fn arguments_come_by_position_and_by_name() {
        for (overloads, given, bound) in [
            ("x y", "1 2", "1 2"),
            ("x y", "1 y=2", "1 2"),
            ("x y", "y=2 x=1", "1 2"),
            ("", "", ""),
            ("x | x y", "1", "1"),
            ("x | x y", "1 y=2", "1 2"),
            ("a | b c", "b=1 c=2", "1 2"),
        ] {
            assert_eq!(check(overloads, given), Ok(words(bound)), "({overloads}) called with ({given})");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (overloads, given, error) in [
            ("x y", "1", "y: missing argument `y`"),
            ("x y", "y=1", "x: missing argument `x`"),
            ("x y", "1 2 3", "-: takes at most 2 arguments (`x`, `y`), 3 given"),
            ("", "1", "-: takes no arguments, 1 given"),
            ("x y", "1 2 x=3", "x: argument `x` is given twice: by position and by name"),
            ("x y", "y=1 y=2", "y: argument `y` is given twice"),
            ("number", "numbre=1", "numbre: unexpected argument `numbre`; did you mean `number`?"),
            ("x", "url=1", "url: unexpected argument `url`; it takes `x`"),
            ("", "x=1", "x: unexpected argument `x`; it takes none"),
            ("x | x y", "y=1", "x: missing argument `x`"),
            ("x | x y z", "1 2", "z: missing argument `z`"),
            ("x | x y", "1 2 3", "-: takes at most 2 arguments (`x`, `y`), 3 given"),
        ] {
            assert_eq!(check(overloads, given), Err(error.to_owned()), "({overloads}) called with ({given})");
        }
    }

    proptest! {
        #[test]
        fn values_meet_their_parameters_however_they_are_given(
            params in prop::collection::hash_set("[a-z]{1,4}", 0..8),
            shorter in 0usize..8,
            by_position in 0usize..8,
            order in any::<prop::sample::Index>(),
        ) {
            let params: Vec<String> = params.into_iter().collect();
            let by_position = by_position.min(params.len());
            let mut overloads = vec![params.clone()];
            if shorter < params.len() {
                overloads.insert(0, params[..shorter].to_vec());
            }
            let mut kwargs: Vec<_> = params[by_position..].iter().map(|name| (name.clone(), name.clone())).collect();
            if !kwargs.is_empty() {
                let middle = order.index(kwargs.len());
                kwargs.rotate_left(middle);
            }

            let bound = bind(&overloads, params[..by_position].to_vec(), kwargs);

            prop_assert_eq!(bound, Ok(params));
        }

        #[test]
        fn what_is_bound_was_given_and_fills_an_overload(
            lengths in prop::collection::btree_set(0usize..5, 1..4),
            args in prop::collection::vec(any::<u8>(), 0..6),
            kwargs in prop::collection::vec(("[a-e]", any::<u8>()), 0..6),
        ) {
            let names = ["a", "b", "c", "d", "e"].map(str::to_owned);
            let overloads: Vec<Vec<String>> = lengths.iter().map(|length| names[..*length].to_vec()).collect();

            match bind(&overloads, args.clone(), kwargs.clone()) {
                Ok(bound) => {
                    prop_assert_eq!(bound.len(), args.len() + kwargs.len());
                    prop_assert!(lengths.contains(&bound.len()));
                    prop_assert_eq!(&bound[..args.len()], &args[..]);
                    for (name, value) in kwargs {
                        let index = names.iter().position(|known| *known == name).unwrap();
                        prop_assert_eq!(bound[index], value);
                    }
                }
                Err(error) => prop_assert!(!error.message.is_empty()),
            }
        }
    }
}
