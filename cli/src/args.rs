//! The command line.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  kontrol lint pipeline.yaml            say what is wrong with a manifest, without running it
  kontrol up pipeline.yaml              run it here; Ctrl-C drains it, a second Ctrl-C forces
  kontrol tree -w                       the supervision tree, live
  kontrol why rag/llm                   why it was restarted, and who decided how many there are
  kontrol logs rag/llm -f               what it writes, as it comes
  kontrol scale rag/vectors 3           replicas, where no scaling decides them
  kontrol down                          drain from another terminal

Exit codes: 0 done; 1 failed; 2 the command line or a manifest is wrong; 3 no `kontrol up` runs in this place;
4 another `kontrol up` runs in this place.";

const TREE: &str = "\
Examples:
  kontrol tree                          once
  kontrol tree -w                       again whenever something changes, until everything has stopped
  kontrol tree -o json | jq .ready      for programs; with -w one tree a line

A row says how many replicas are ready of those wanted, their load, what keeps them from being ready, and where they listen.";

const WHY: &str = "\
Examples:
  kontrol why rag/llm                   a widget: its replicas, and its last end down to the first cause
  kontrol why rag                       a group or supervisor: its restarts, and what it waits for

Every line of the chain is the cause of the line above it.";

const LOGS: &str = "\
Examples:
  kontrol logs rag/llm -f               what a widget writes, as it comes
  kontrol logs rag/llm-0 -n 20          the last 20 lines of one replica
  kontrol logs -f -n 0                  everything, and all decisions, from now on
  kontrol logs rag/llm -s               with all that its sidecars write

Of sidecars and the hub only warnings are shown, unless their lines are asked for.";

const RESTART: &str = "\
Examples:
  kontrol restart rag/llm               a widget alone, all its replicas
  kontrol restart rag                   a group, from its first widget on

What has given up is started again. `kontrol tree -w` shows how it goes, `kontrol why NAME` what came of it.";

const SCALE: &str = "\
Examples:
  kontrol scale rag/vectors 3           three replicas, also over the next `kontrol up`
  kontrol scale rag/vectors 0           none; its group goes on without it

A widget with `scaling` of class Kontrol decides itself: change scaling.min and scaling.max in the manifest.";

const DOWN: &str = "\
Examples:
  kontrol down                          each widget gets SIGTERM and its grace; waits until everything has stopped
  kontrol down --force                  SIGKILL at once

Messages and decisions stay in the state folder for the next `kontrol up`.";

/// Runs components described in YAML under supervision, each with a sidecar, on this machine.
#[derive(Debug, Parser)]
#[command(name = "kontrol", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Args {
    /// The state folder. Default for `up`: `.kontrol` beside the first manifest. For the other commands: `.kontrol` in the current
    /// folder, or that of the only `kontrol up` of this user that runs.
    #[arg(long, global = true, env = "KONTROL_STATE_DIR", value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// What kontrol itself logs on stderr: error, warn, info, debug, or a filter such as `kontrol_operator=debug`.
    #[arg(long, global = true, env = "KONTROL_LOG", default_value = "warn", value_name = "LEVEL")]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run manifests here, until Ctrl-C or `kontrol down`.
    #[command(
        after_help = "The manifests are watched: an edit is followed live, doing the least that is needed; one with mistakes is \
                            reported, and what runs goes on."
    )]
    Up(Up),
    /// Say what is wrong with manifests, without running them.
    #[command(after_help = "Ends with 0 where nothing is wrong, and with 2 otherwise.")]
    Lint(Lint),
    /// Print the version.
    Version,
    #[command(flatten)]
    Ask(Ask),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Up {
    /// Manifests: files, folders (their *.yaml and *.yml), or `-` for standard input.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Where kontrol-sidecar and kontrol-shim are. Default: beside this program.
    #[arg(long, env = "KONTROL_BIN_DIR", value_name = "FOLDER")]
    pub(crate) bin_dir: Option<PathBuf>,
    /// Show only decisions, not what the widgets write.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How decisions and lines are printed.
    #[arg(short, long, value_enum, default_value_t = Lines::Text)]
    pub(crate) output: Lines,
}

/// How lines are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lines {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Lint {
    /// Manifests: files, folders, or `-`.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// How problems are printed.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}

/// What is asked of a running `kontrol up`.
#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// Show the supervision tree.
    #[command(after_help = TREE)]
    Tree {
        /// Go on showing it as it changes.
        #[arg(short, long)]
        watch: bool,
        /// How it is printed.
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Say why a widget, group or supervisor is as it is: its last end with all that followed, and who decided its replicas.
    #[command(after_help = WHY)]
    Why {
        /// widget, group, supervisor, group/widget or namespace/group/widget; a replica such as rag/llm-0 means its widget.
        name: String,
        /// How it is printed.
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Show what a widget or group writes; without a name, everything and all decisions.
    #[command(after_help = LOGS)]
    Logs {
        /// widget, group, supervisor, group/widget, namespace/group/widget; a replica such as rag/llm-0 alone; or `hub`.
        name: Option<String>,
        /// Go on with what is written from now on.
        #[arg(short, long)]
        follow: bool,
        /// Lines from the past, for each process; 0 for none.
        #[arg(short = 'n', long, default_value_t = 100, value_name = "LINES")]
        tail: u32,
        /// Show all that sidecars and the hub write as well.
        #[arg(short, long)]
        sidecars: bool,
        /// How lines are printed.
        #[arg(short, long, value_enum, default_value_t = Lines::Text)]
        output: Lines,
    },
    /// Restart a widget, group or supervisor; counts for no intensity.
    #[command(after_help = RESTART)]
    Restart {
        /// widget, group, supervisor, group/widget or namespace/group/widget; a replica such as rag/llm-0 means its widget.
        name: String,
    },
    /// Set the replicas of a widget whose scaling is absent or External, until its manifest says another number.
    #[command(after_help = SCALE)]
    Scale {
        /// widget, group/widget or namespace/group/widget.
        name: String,
        /// How many, from 0 to 1000.
        replicas: u32,
    },
    /// Drain everything in reverse order and end the `kontrol up`.
    #[command(after_help = DOWN)]
    Down {
        /// Kill instead of asking first, also what is being drained already.
        #[arg(long)]
        force: bool,
    },
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl Args {
    /// Whether the state folder was named.
    pub(crate) fn names_place(&self) -> bool {
        self.state_dir.is_some()
    }

    /// The state folder, as far as the command line tells.
    pub(crate) fn place(&self) -> PathBuf {
        const NAME: &str = ".kontrol";
        match (&self.state_dir, &self.command) {
            (Some(folder), _) => folder.clone(),
            (None, Command::Up(up)) => {
                up.paths.first().map_or_else(PathBuf::new, |path| folder_of(path)).join(NAME)
            }
            (None, _) => PathBuf::from(NAME),
        }
    }
}

/// The folder that a manifest is in; empty where it is the current one.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.to_owned();
    }
    path.parent().map(Path::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn state_lies_beside_the_first_manifest() {
        let place = |words: &[&str]| Args::parse_from(words.iter().copied()).place();
        assert_eq!(place(&["kontrol", "up", "some/where/p.yaml"]), PathBuf::from("some/where/.kontrol"));
        assert_eq!(place(&["kontrol", "up", "p.yaml"]), PathBuf::from(".kontrol"));
        assert_eq!(place(&["kontrol", "--state-dir", "/s", "tree"]), PathBuf::from("/s"));
        assert_eq!(place(&["kontrol", "tree"]), PathBuf::from(".kontrol"));
    }
}
