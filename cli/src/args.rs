//! The command line.

mod kube;

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub(crate) use kube::{Kube, Rollout};

const EXAMPLES: &str = "\
Examples:
  kontrol lint pipeline.yaml            say what is wrong with a manifest, without running it
  kontrol up pipeline.yaml              run it here; Ctrl-C drains it, a second Ctrl-C forces
  kontrol tree -w                       the supervision tree, live
  kontrol why rag/llm                   why it was restarted, and who decided how many there are
  kontrol logs rag/llm -f               what it writes, as it comes
  kontrol scale rag/vectors 3           replicas, where no scaling decides them
  kontrol down                          drain from another terminal
  kontrol --cluster tree -A             the same questions to a cluster; `kubectl kontrol` always means it

Exit codes: 0 done; 1 failed; 2 the command line or a manifest is wrong; 3 no `kontrol up` runs in this place, or the
cluster cannot be reached; 4 another `kontrol up` runs in this place.";

const PLUGIN_EXAMPLES: &str = "\
Examples:
  kubectl kontrol tree -n shop -w       the supervision trees of a namespace, live
  kubectl kontrol status -A             what is ready and what is not, everywhere
  kubectl kontrol why rag/llm           why it was restarted, and who decided how many there are
  kubectl kontrol logs rag/llm -f       what it writes, over all its pods that come and go
  kubectl kontrol restart rag           a group, from its first widget on
  kubectl kontrol rollout undo rag/llm  back to the revision before
  kubectl kontrol lint pipeline.yaml    say what is wrong with a manifest before it is applied

It asks the API server with your own rights: `get` and `list` of the kinds of kontrol.dev and of pods, `get` of pods/log;
for restart and rollout also `patch` of those kinds, for scale `patch` of widgets/scale, for history `list` of controllerrevisions.
A widget is named as rag/llm, or as kubectl has it: rag-llm, or rag-llm-0 for a replica.

Exit codes: 0 done; 1 failed, or not ready; 2 the command line or a manifest is wrong; 3 the cluster cannot be reached.";

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

const STATUS: &str = "\
Examples:
  kontrol status                        everything, one line a tree
  kontrol status rag                    one group or supervisor
  kontrol status --wait --timeout 2m    until everything is ready, for scripts

Ends with 0 where all of it is ready, and with 1 otherwise.";

const COMPLETION: &str = "\
Examples:
  source <(kontrol completion bash)                       for this shell; in ~/.bashrc for all
  kontrol completion zsh > \"${fpath[1]}/_kontrol\"       then start a new shell
  kontrol completion fish > ~/.config/fish/completions/kontrol.fish
  kontrol completion kubectl > ~/.local/bin/kubectl_complete-kontrol && chmod +x ~/.local/bin/kubectl_complete-kontrol

The last one completes `kubectl kontrol`: kubectl looks for a program of that name in PATH.";

/// How long a command may wait for what it asks.
fn duration(text: &str) -> Result<Duration, String> {
    kontrol_core::duration::parse(text).map_err(|error| error.to_string())
}

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
    #[command(flatten)]
    pub(crate) kube: Kube,
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
    /// Print a script that completes the command line, names of what is there among it.
    #[command(after_help = COMPLETION)]
    Completion {
        /// For which shell; `kubectl`: the program that kubectl asks.
        shell: Shell,
    },
    /// Print what may stand in the place of the last word: for the scripts of `completion`.
    #[command(name = "__complete", hide = true, disable_help_flag = true)]
    Complete {
        /// The words so far, the last one perhaps not yet whole.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
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

/// What completes command lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// Bash.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
    Fish,
    /// `kubectl`, for `kubectl kontrol`.
    Kubectl,
}

/// What is asked of a running `kontrol up`, or of a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// Say in a line for each tree, or for one that is named, whether it is ready.
    #[command(after_help = STATUS)]
    Status {
        /// widget, group, supervisor, group/widget or namespace/group/widget.
        name: Option<String>,
        /// Wait until it is ready.
        #[arg(short, long)]
        wait: bool,
        /// How long to wait at most.
        #[arg(long, default_value = "5m", value_parser = duration, value_name = "DURATION", requires = "wait")]
        timeout: Duration,
        /// How it is printed.
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Follow, halt and undo roll-outs of new revisions.
    #[command(subcommand)]
    Rollout(Rollout),
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

/// Whether this program was called as a plugin of kubectl.
pub(crate) fn is_plugin(program: &OsStr) -> bool {
    let name = Path::new(program).file_name().and_then(OsStr::to_str).unwrap_or_default();
    name == "kubectl-kontrol" || name == "kubectl_kontrol"
}

/// The command line as it is known to who calls it by this name: with `--cluster` and for kubectl `-n` is the namespace, everywhere.
pub(crate) fn command(words: &[OsString]) -> clap::Command {
    let plugin = words.first().is_some_and(|program| is_plugin(program));
    let mut options = words.iter().skip(1).take_while(|word| *word != "--");
    let mut command = Args::command();
    if plugin || options.any(|word| word == "--cluster") {
        command = command
            .mut_arg("namespace", |namespace| namespace.short('n'))
            .mut_subcommand("logs", |logs| logs.mut_arg("tail", |tail| tail.short(None)));
    }
    if plugin {
        for hidden in ["up", "down"] {
            command = command.mut_subcommand(hidden, |command| command.hide(true));
        }
        command = command
            .bin_name("kubectl kontrol")
            .about("Shows and steers what Kontrol supervises on a cluster, with your own rights.")
            .after_help(PLUGIN_EXAMPLES)
            .mut_arg("cluster", |cluster| cluster.hide(true))
            .mut_arg("state_dir", |folder| folder.hide(true));
    }
    command
}

impl Args {
    /// Reads the command line, or ends the program with what is wrong with it.
    pub(crate) fn read(words: &[OsString]) -> Self {
        let matches = command(words).get_matches_from(words);
        let plugin = words.first().is_some_and(|program| is_plugin(program));
        match Self::from_arg_matches(&matches) {
            Ok(mut args) => {
                args.kube.cluster |= plugin;
                args
            }
            Err(error) => error.exit(),
        }
    }

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

    fn read(words: &[&str]) -> Result<Args, clap::Error> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        Args::from_arg_matches(&command(&words).try_get_matches_from(&words)?)
    }

    #[test]
    fn the_command_line_is_well_formed() {
        for words in [&["kontrol"][..], &["kontrol", "--cluster"], &["/bin/kubectl-kontrol"]] {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            command(&words).debug_assert();
        }
    }

    #[test]
    fn n_is_the_namespace_of_a_cluster_and_lines_of_a_log_here() {
        let args = read(&["kubectl-kontrol", "logs", "rag/llm", "-n", "shop", "--tail", "5"]).unwrap();
        assert_eq!(args.kube.namespace.as_deref(), Some("shop"));
        let args = read(&["kontrol", "--cluster", "tree", "-n", "shop"]).unwrap();
        assert_eq!(args.kube.namespace.as_deref(), Some("shop"));
        let args = read(&["kontrol", "logs", "rag/llm", "-n", "5"]).unwrap();
        assert_eq!(args.kube.namespace, None);
        assert!(matches!(args.command, Command::Ask(Ask::Logs { tail: 5, .. })));
    }

    #[test]
    fn a_cluster_is_asked_only_where_the_command_line_says_so() {
        for (words, cluster) in [
            (&["kontrol", "tree"][..], false),
            (&["kontrol", "--cluster", "tree"], true),
            (&["kontrol", "tree", "--context", "prod"], true),
            (&["kontrol", "tree", "--kubeconfig", "k"], true),
            (&["kontrol", "tree", "--namespace", "shop"], true),
            (&["kontrol", "tree", "-A"], true),
        ] {
            assert_eq!(read(words).unwrap().kube.is_meant(), cluster, "{words:?}");
        }
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
