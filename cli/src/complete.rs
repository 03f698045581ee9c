//! Completion: scripts for shells, all of which ask `kontrol __complete` what may stand in the place of the last word.

use std::{ffi::OsString, time::Duration};

use clap::{Arg, Command, FromArgMatches as _};
use tokio::time::timeout;

use crate::{
    Outcome,
    args::{Args, Shell, command},
    ask, cluster, print,
};

/// How long names may be asked for: who presses Tab does not wait longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Arguments that are names of what is there.
const NAMES: &str = "name";

/// The script of a shell.
pub(crate) fn script(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => include_str!("complete/bash.sh"),
        Shell::Zsh => include_str!("complete/zsh.sh"),
        Shell::Fish => include_str!("complete/fish.fish"),
        Shell::Kubectl => include_str!("complete/kubectl.sh"),
    }
}

/// Prints a candidate a line, and for kubectl what it is to do with them. `words` begin with the program.
pub(crate) async fn run(words: &[String]) -> Outcome {
    let (found, files) = candidates(words).await;
    for candidate in &found {
        print(candidate);
    }
    // What kubectl reads: 4 is "no file names instead", 0 "file names where there is nothing else".
    print(if files { ":0" } else { ":4" });
    Outcome::Done
}

/// What begins as the last word does, and whether files may stand there.
async fn candidates(words: &[String]) -> (Vec<String>, bool) {
    let Some((last, before)) = words.split_last() else { return (Vec::new(), false) };
    let os: Vec<OsString> = words.iter().map(OsString::from).collect();
    let mut root = command(&os);
    root.build();
    let place = Place::of(&root, before.get(1..).unwrap_or_default());
    let (mut found, files) = match &place.value_of {
        Some(arg) => (values(arg), values(arg).is_empty() && takes_files(arg)),
        None if last.starts_with('-') => (options(place.command), false),
        None => place.positional(),
    };
    if place.value_of.is_none() && place.wants_name() && !last.starts_with('-') {
        let names = timeout(PATIENCE, names(&root, before)).await;
        found.extend(names.ok().flatten().unwrap_or_default());
    }
    found.retain(|candidate| candidate.starts_with(last.as_str()));
    (found, files)
}

/// Where in the command line something is to be completed.
struct Place<'a> {
    command: &'a Command,
    /// The option whose value it is.
    value_of: Option<&'a Arg>,
    /// How many positional arguments are there before it.
    position: usize,
}

impl<'a> Place<'a> {
    fn of(root: &'a Command, words: &[String]) -> Self {
        let mut place = Self { command: root, value_of: None, position: 0 };
        for word in words {
            if place.value_of.take().is_some() {
                continue;
            }
            if let Some(option) = word.strip_prefix("--").filter(|option| !option.contains('=')) {
                let found = place.command.get_arguments().find(|arg| arg.get_long() == Some(option));
                place.value_of = found.filter(|arg| arg.get_action().takes_values());
            } else if let Some(letter) = word.strip_prefix('-').filter(|rest| rest.chars().count() == 1) {
                let found =
                    place.command.get_arguments().find(|arg| arg.get_short() == letter.chars().next());
                place.value_of = found.filter(|arg| arg.get_action().takes_values());
            } else if word.starts_with('-') {
            } else if let Some(below) = place.command.find_subcommand(word) {
                place = Self { command: below, value_of: None, position: 0 };
            } else {
                place.position += 1;
            }
        }
        place
    }

    fn argument(&self) -> Option<&'a Arg> {
        let mut arguments = self.command.get_positionals();
        let last = self.command.get_positionals().last();
        arguments
            .nth(self.position)
            .or(last.filter(|last| last.get_num_args().is_some_and(|num| num.max_values() > 1)))
    }

    fn wants_name(&self) -> bool {
        self.argument().is_some_and(|arg| arg.get_id() == NAMES)
    }

    fn positional(&self) -> (Vec<String>, bool) {
        let commands = self.command.get_subcommands().filter(|below| !below.is_hide_set());
        let commands: Vec<String> = commands.map(|below| below.get_name().to_owned()).collect();
        match self.argument() {
            None => (commands, false),
            Some(arg) => (values(arg), takes_files(arg)),
        }
    }
}

fn options(command: &Command) -> Vec<String> {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    shown.filter_map(Arg::get_long).map(|long| format!("--{long}")).collect()
}

fn values(arg: &Arg) -> Vec<String> {
    let possible = arg.get_value_parser().possible_values();
    possible.into_iter().flatten().map(|value| value.get_name().to_owned()).collect()
}

fn takes_files(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == clap::builder::ValueParser::path_buf().type_id()
}

/// The names of what is there, of the world that the words before mean.
async fn names(root: &Command, before: &[String]) -> Option<Vec<String>> {
    let known = |word: &&String| !word.is_empty();
    // What is complete already says which world is meant; `version` stands for the command.
    let options = options_of(before);
    let words = before.first().into_iter().chain(&options).filter(known).cloned();
    let words: Vec<String> = words.chain(["version".to_owned()]).collect();
    let args = Args::from_arg_matches(&root.clone().try_get_matches_from(words).ok()?).ok()?;
    let plugin = before.first().is_some_and(|program| crate::args::is_plugin(program.as_ref()));
    let mut kube = args.kube.clone();
    kube.cluster |= plugin;
    if kube.is_meant() {
        return cluster::names_there(&kube).await.ok();
    }
    ask::names_there(&args.place(), args.names_place()).await
}

/// The options before the word that are those of every command.
fn options_of(before: &[String]) -> Vec<String> {
    const VALUED: [&str; 5] = ["--kubeconfig", "--context", "--namespace", "-n", "--state-dir"];
    let mut found = Vec::new();
    let mut words = before.iter().skip(1);
    while let Some(word) = words.next() {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        if VALUED.contains(&name) {
            found.push(word.clone());
            if name == word {
                found.extend(words.next().cloned());
            }
        } else if matches!(name, "--cluster" | "-A" | "--all-namespaces") {
            found.push(word.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn completed(words: &[&str]) -> Vec<String> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        candidates(&words).await.0
    }

    #[tokio::test]
    async fn commands_options_and_values_are_completed() {
        assert_eq!(completed(&["kontrol", "tr"]).await, ["tree"]);
        assert_eq!(completed(&["kontrol", "rollout", "u"]).await, ["undo"]);
        assert_eq!(completed(&["kontrol", "tree", "--wa"]).await, ["--watch"]);
        assert_eq!(completed(&["kontrol", "tree", "-o", ""]).await, ["text", "json", "yaml"]);
        assert_eq!(completed(&["kontrol", "completion", "f"]).await, ["fish"]);
        assert!(completed(&["kubectl-kontrol", "u"]).await.is_empty(), "`up` is not for a cluster");
        assert!(completed(&["kontrol", "__c"]).await.is_empty());
    }

    #[tokio::test]
    async fn files_are_left_to_the_shell() {
        let words = ["kontrol", "lint", ""].map(str::to_owned);
        assert_eq!(candidates(&words).await, (Vec::new(), true));
    }

    #[test]
    fn every_shell_has_a_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Kubectl] {
            assert!(script(shell).contains("__complete"));
        }
    }
}
