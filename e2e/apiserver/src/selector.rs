//! Label and field selectors.

use serde_json::Value;

use crate::failure::Failure;

/// What a list or a watch is narrowed to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<(String, Rule)>,
    fields: Vec<(Vec<String>, Rule)>,
}

#[derive(Clone, Debug)]
enum Rule {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Rule {
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Self::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
            Self::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
        }
    }
}

impl Selector {
    /// Reads both, as they stand in a query.
    pub(crate) fn parse(labels: Option<&str>, fields: Option<&str>) -> Result<Self, Failure> {
        let labels = match labels {
            Some(text) => terms(text).iter().map(|term| requirement(term)).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        let mut read = Vec::new();
        for term in fields.into_iter().flat_map(|text| text.split(',')).filter(|term| !term.is_empty()) {
            let (path, rule) = if let Some((path, value)) = term.split_once("!=") {
                (path, Rule::NotIn(vec![value.to_owned()]))
            } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
                (path, Rule::In(vec![value.to_owned()]))
            } else {
                return Err(Failure::bad_request(format!("invalid field selector: {term}")));
            };
            read.push((path.split('.').map(str::to_owned).collect(), rule));
        }
        Ok(Self { labels, fields: read })
    }

    /// Whether an object belongs to what was asked for.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|(key, rule)| rule.holds(labels[key.as_str()].as_str()))
            && self.fields.iter().all(|(path, rule)| {
                let value = path.iter().fold(object, |value, step| &value[step.as_str()]);
                rule.holds(Some(value.as_str().unwrap_or_default()))
            })
    }
}

/// Splits at commas outside parentheses.
fn terms(text: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut depth = 0;
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                found.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = found.last_mut() {
            last.push(letter);
        }
    }
    found.into_iter().map(|term| term.trim().to_owned()).filter(|term| !term.is_empty()).collect()
}

fn requirement(term: &str) -> Result<(String, Rule), Failure> {
    let set = |text: &str| -> Vec<String> {
        text.trim().trim_matches(['(', ')']).split(',').map(|value| value.trim().to_owned()).collect()
    };
    let own = |key: &str, rule| Ok((key.trim().to_owned(), rule));
    if let Some((key, values)) = term.split_once(" notin ") {
        return own(key, Rule::NotIn(set(values)));
    }
    if let Some((key, values)) = term.split_once(" in ") {
        return own(key, Rule::In(set(values)));
    }
    if let Some((key, value)) = term.split_once("!=") {
        return own(key, Rule::NotIn(vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return own(key, Rule::In(vec![value.trim().to_owned()]));
    }
    if let Some(key) = term.strip_prefix('!') {
        return own(key, Rule::Absent);
    }
    if term.contains([' ', '(', ')']) {
        return Err(Failure::bad_request(format!("unable to parse requirement: {term}")));
    }
    own(term, Rule::Exists)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Selector;

    fn holds(labels: &str, object: &serde_json::Value) -> bool {
        Selector::parse(Some(labels), None).unwrap().matches(object)
    }

    #[test]
    fn each_form_of_a_label_selector_selects() {
        let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
        for selector in
            ["a", "a=1", "a==1", "a!=2", "a in (1,2)", "a notin (3)", "!c", "c!=1", "a=1,b in (2)"]
        {
            assert!(holds(selector, &object), "{selector}");
        }
        for selector in ["c", "a=2", "a!=1", "a in (2,3)", "a notin (1)", "!a", "a=1,b=3"] {
            assert!(!holds(selector, &object), "{selector}");
        }
    }

    #[test]
    fn fields_are_selected_by_path() {
        let object = json!({"metadata": {"name": "x"}, "spec": {"nodeName": "n"}});
        let one = |fields| Selector::parse(None, Some(fields)).unwrap().matches(&object);
        assert!(one("metadata.name=x,spec.nodeName!=m"));
        assert!(!one("metadata.name=y"));
    }
}
