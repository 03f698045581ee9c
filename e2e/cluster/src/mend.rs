//! Putting a cluster right that a test has broken and left so.

use std::time::Duration;

use crate::{Cluster, Result, network, node};

/// How long a node may take to be ready again.
const PATIENCE: Duration = Duration::from_mins(2);

impl Cluster {
    /// Puts right what was broken and left so: starts what has ended, connects what is cut off, has cordoned nodes take pods again, and
    /// waits until the nodes are ready.
    pub fn mend(&self) -> Result<()> {
        if !self.is_whole()? {
            let _alone = crate::up::alone(self.run())?;
            self.put_right()?;
        }
        self.wait_for_api()?;
        for node in &self.state().nodes {
            self.node_uncordon(node)?;
            self.wait_for_node(node, true, PATIENCE)?;
        }
        Ok(())
    }

    /// Starts what has ended, connects what is cut off, and lets pass what is dropped.
    fn put_right(&self) -> Result<()> {
        let control = self.run().cgroup_of("control");
        for component in self.state().components.iter().filter(|component| component.cgroup == control) {
            if self.process(&component.name).is_none() {
                self.start(&component.name)?;
            }
        }
        self.wait_for_api()?;
        for node in &self.state().nodes {
            self.node_unmute(node)?;
            if node::component_names(node).iter().any(|name| self.process(name).is_none()) {
                self.node_restart(node)?;
            } else {
                self.node_heal(node)?;
            }
        }
        Ok(())
    }

    /// Whether every component runs and every node is connected, with nothing dropped.
    fn is_whole(&self) -> Result<bool> {
        if self.state().components.iter().any(|component| self.process(&component.name).is_none()) {
            return Ok(false);
        }
        for node in &self.state().nodes {
            if !network::connected(self.run(), node)? || network::muted(self.run(), node)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
