//! What was probably meant by a name that is not there.

/// Names that are listed at most.
const LISTED: usize = 12;
/// Names that are offered at most.
const OFFERED: usize = 3;

/// The names that were probably meant: the nearest of those that are near enough, or that begin so.
pub(crate) fn meant(name: &str, names: &[String]) -> Option<String> {
    let wanted = fold(name);
    let near = names.iter().filter_map(|known| {
        let distance = forms(known).map(|form| distance(&wanted, &fold(form))).min()?;
        (distance <= wanted.chars().count() / 3).then_some((distance, known.as_str()))
    });
    let near: Vec<(usize, &str)> = near.collect();
    let nearest = near.iter().map(|(distance, _)| *distance).min()?;
    let mut offered: Vec<&str> =
        near.into_iter().filter(|(distance, _)| *distance == nearest).map(|(_, known)| known).collect();
    offered.truncate(OFFERED);
    Some(any_of(&offered))
}

/// All names for people, as far as they can be taken in.
pub(super) fn listed(names: &[String]) -> String {
    match names.get(..LISTED) {
        Some(first) if names.len() > LISTED => {
            format!("{} and {} more, which `kontrol tree` shows", first.join(", "), names.len() - LISTED)
        }
        _ if names.is_empty() => "none".to_owned(),
        _ => names.join(", "),
    }
}

/// A name from each of its parts to its end: `a/b/c`, `b/c`, `c`.
fn forms(known: &str) -> impl Iterator<Item = &str> {
    let starts = known.match_indices('/').map(|(at, _)| at + 1);
    std::iter::once(0).chain(starts).filter_map(|at| known.get(at..))
}

/// One that only has to be written to its end is as near as one slip.
fn distance(wanted: &str, known: &str) -> usize {
    let rest = known.strip_prefix(wanted).filter(|_| wanted.chars().count() >= 3);
    if rest.is_some_and(|rest| !rest.contains('/')) { 1 } else { strsim::osa_distance(wanted, known) }
}

/// Case and separators are what is confused most.
fn fold(name: &str) -> String {
    let name = name.strip_prefix("default/").unwrap_or(name);
    name.chars().take(200).filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

fn any_of(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let names = ["top", "edge", "edge/analytics", "edge/sensor", "shop/pay", "shop/pay/card-reader"];
        let names: Vec<String> = names.map(str::to_owned).into();
        for (name, expected) in [
            ("edg", Some("edge")),
            ("sensr", Some("edge/sensor")),
            ("edge/sesnor", Some("edge/sensor")),
            ("default/edge/sensro", Some("edge/sensor")),
            ("anal", Some("edge/analytics")),
            ("Card_Reader", Some("shop/pay/card-reader")),
            ("pay/cardreader", Some("shop/pay/card-reader")),
            ("tpo", Some("top")),
            ("nobody", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(meant(name, &names).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn two_that_are_as_near_are_both_offered() {
        let names = ["g/worker-a".to_owned(), "g/worker-b".to_owned()];
        assert_eq!(meant("worker-c", &names).unwrap(), "g/worker-a or g/worker-b");
    }

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<String> = (0..20).map(|n| format!("w{n}")).collect();
        let text = listed(&names);
        assert!(text.ends_with("w11 and 8 more, which `kontrol tree` shows"), "{text}");
        assert_eq!(listed(&names[..2]), "w0, w1");
    }
}
