//! Manifests for worlds of test widgets.

use std::fmt::{self, Write as _};

use serde_json::json;

/// One group and its topics, as text. What is given as rules is YAML, a line each.
#[derive(Clone, Debug)]
pub struct Manifest {
    group: String,
    widgets: String,
    topics: String,
}

impl Manifest {
    /// A group of this name.
    pub fn group(name: &str, rules: &[&str]) -> Self {
        let mut group = format!(
            "apiVersion: kontrol.dev/v1alpha1\nkind: WidgetGroup\nmetadata: {{name: {name}}}\nspec:\n"
        );
        lines(&mut group, 2, rules);
        Self { group, widgets: String::new(), topics: String::new() }
    }

    /// A test widget with these arguments.
    pub fn widget(self, name: &str, arguments: &[&str], rules: &[&str]) -> anyhow::Result<Self> {
        let program = super::test_widget()?;
        let mut command = vec![program.display().to_string()];
        command.extend(arguments.iter().map(|&argument| argument.to_owned()));
        Ok(self.command(name, &command, rules))
    }

    /// A widget that runs this command.
    #[must_use]
    pub fn command(mut self, name: &str, command: &[String], rules: &[&str]) -> Self {
        // JSON is YAML.
        let process = format!("process: {}", json!({"command": command}));
        lines(&mut self.widgets, 2, &[&format!("- name: {name}")]);
        lines(&mut self.widgets, 4, &[process.as_str()]);
        lines(&mut self.widgets, 4, rules);
        self
    }

    /// A topic.
    #[must_use]
    pub fn topic(mut self, name: &str, rules: &[&str]) -> Self {
        let begin = "---\napiVersion: kontrol.dev/v1alpha1\nkind: Topic\nmetadata:";
        lines(&mut self.topics, 0, &[&format!("{begin} {{name: {name}}}")]);
        lines(&mut self.topics, 0, &[if rules.is_empty() { "spec: {}" } else { "spec:" }]);
        lines(&mut self.topics, 2, rules);
        self
    }
}

fn lines(text: &mut String, indent: usize, lines: &[&str]) {
    for line in lines {
        // Writing to a String cannot fail.
        let _ignored = writeln!(text, "{:indent$}{line}", "");
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  widgets:\n{}{}", self.group, self.widgets, self.topics)
    }
}
