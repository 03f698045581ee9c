//! The part of the command line that is about clusters.

use std::{path::PathBuf, time::Duration};

use clap::Subcommand;

use super::{Format, duration};

/// Which cluster, and what of it, as kubectl has it. One of these options given: the cluster is meant, not a `kontrol up`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Kube {
    /// Ask the cluster that kubectl would, not a `kontrol up` of this machine. `-n` is the namespace then.
    #[arg(long, global = true)]
    pub(crate) cluster: bool,
    /// The kubeconfig. Default: the files of KUBECONFIG, else ~/.kube/config, else the pod's own.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig. Default: its current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The namespace. Default: that of the context, else `default`.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// How long the API server may take for an answer.
    #[arg(long, global = true, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub(crate) request_timeout: Duration,
}

impl Kube {
    /// Whether the cluster is meant.
    pub(crate) fn is_meant(&self) -> bool {
        let named = self.kubeconfig.is_some() || self.context.is_some() || self.namespace.is_some();
        self.cluster || named || self.all_namespaces
    }
}

const STATUS: &str = "\
Examples:
  kubectl kontrol rollout status rag              until every widget of the group has its newest revision
  kubectl kontrol rollout status rag/llm --no-wait  how it stands

Ends with 0 when it is complete, and with 1 where it failed, was taken back, is paused, or takes longer than --timeout.";

const UNDO: &str = "\
Examples:
  kubectl kontrol rollout undo rag/llm                 the revision before the newest
  kubectl kontrol rollout undo rag/llm --to-revision 3   the number that `rollout history` shows

The widget's template is put back, as `kubectl apply` of the old manifest would; its replicas stay as they are.
What the manifest says is not changed: the next apply of it brings its revision again.";

/// Roll-outs of new revisions.
#[derive(Debug, Subcommand)]
pub(crate) enum Rollout {
    /// Say how the roll-out of a widget, or of all widgets of a group, stands, until it is over.
    #[command(after_help = STATUS)]
    Status {
        /// widget, group, group/widget or namespace/group/widget.
        name: String,
        /// Say it once, and do not wait.
        #[arg(long)]
        no_wait: bool,
        /// How long to wait at most.
        #[arg(long, default_value = "10m", value_parser = duration, value_name = "DURATION")]
        timeout: Duration,
        /// How it is printed.
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Halt roll-outs where they are: sets `rollout.paused`.
    Pause {
        /// widget, group, group/widget or namespace/group/widget.
        name: String,
    },
    /// Let halted roll-outs go on: unsets `rollout.paused`.
    Resume {
        /// widget, group, group/widget or namespace/group/widget.
        name: String,
    },
    /// Go back to an earlier revision of a widget.
    #[command(after_help = UNDO)]
    Undo {
        /// widget, group/widget or namespace/group/widget.
        name: String,
        /// Which revision; 0: the one before the newest.
        #[arg(long, default_value_t = 0, value_name = "NUMBER")]
        to_revision: i64,
    },
    /// Show the revisions of a widget that are kept.
    History {
        /// widget, group/widget or namespace/group/widget.
        name: String,
        /// How it is printed.
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
}

impl Rollout {
    /// Of what.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Status { name, .. }
            | Self::Pause { name }
            | Self::Resume { name }
            | Self::Undo { name, .. }
            | Self::History { name, .. } => name,
        }
    }
}
