//! What was probably meant.

use strsim::osa_distance;

/// What others call a field, and what it is called here.
const ELSEWHERE: [(&str, &str); 18] = [
    ("args", "command"),
    ("container", "process"),
    ("containers", "process"),
    ("cwd", "workingDir"),
    ("dependsOn", "calls"),
    ("environment", "env"),
    ("if", "when"),
    ("image", "process"),
    ("livenessProbe", "health"),
    ("port", "endpoint"),
    ("ports", "endpoint"),
    ("readinessProbe", "health"),
    ("resources", "limits"),
    ("restartPolicy", "restart"),
    ("retries", "maxRetries"),
    ("terminationGracePeriodSeconds", "shutdown"),
    ("ttl", "retention"),
    ("widget", "group"),
];

/// The known name that was probably meant: what others call `name`, or the nearest where one is near enough.
pub(crate) fn hint<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let same = ELSEWHERE.iter().find(|(other, _)| *other == name).map(|(_, here)| *here);
    if let Some(here) = same.and_then(|here| known.iter().find(|known| **known == here)) {
        return Some(*here);
    }
    let folded = fold(name);
    let (distance, nearest) =
        known.iter().map(|known| (osa_distance(&folded, &fold(known)), *known)).min()?;
    (distance <= folded.chars().count().min(nearest.len()) / 3).then_some(nearest)
}

/// Names for people: `a, b and c`.
pub(crate) fn list(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        [name] => (*name).to_owned(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// Case and separators are what is confused most.
fn fold(name: &str) -> String {
    name.chars().take(64).filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let known = ["maxRestarts", "period", "command", "workingDir", "env"];
        for (name, meant) in [
            ("max_restarts", Some("maxRestarts")),
            ("maxRestart", Some("maxRestarts")),
            ("peroid", Some("period")),
            ("comand", Some("command")),
            ("workingdir", Some("workingDir")),
            ("cwd", Some("workingDir")),
            ("image", None),
            ("x", None),
        ] {
            assert_eq!(hint(name, &known), meant, "{name}");
        }
    }
}
