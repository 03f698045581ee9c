//! The network of a run: namespaces, the bridge that joins them, and the host's way in.

use std::process::Command;

use crate::{Addresses, Entry, Error, Ledger, Result, Run, component::set_in_namespace, error::at};

/// Runs a program and gives what it printed.
pub(crate) fn command(program: &str, arguments: &[&str]) -> Result<String> {
    let line = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| Error::Command { command: line(), reason: error.to_string() })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Command { command: line(), reason: format!("{}: {said}", output.status) })
}

/// `ip` with the words of `line`.
fn ip(line: &str) -> Result<String> {
    command("ip", &line.split_whitespace().collect::<Vec<_>>())
}

/// The host's link to the run.
pub(crate) fn host_link(addresses: Addresses) -> String {
    format!("kc{}", addresses.index())
}

/// Makes the namespaces, the links and the routes.
pub(crate) fn make(run: &Run, addresses: Addresses, nodes: &[String], ledger: &mut Ledger) -> Result<()> {
    let mut add = |entry: Entry| ledger.add(&entry).map_err(at(run.ledger()));
    let control = run.namespace();
    let bridge = addresses.control();
    add(Entry::Namespace { name: control.clone() })?;
    ip(&format!("netns add {control}"))?;
    ip(&format!("-n {control} link set lo up"))?;
    ip(&format!("-n {control} link add br0 type bridge"))?;
    ip(&format!("-n {control} addr add {bridge}/24 dev br0"))?;
    ip(&format!("-n {control} link set br0 up"))?;
    forward(&control)?;

    let link = host_link(addresses);
    add(Entry::Link { name: link.clone() })?;
    ip(&format!("link add {link} type veth peer name host netns {control}"))?;
    ip(&format!("-n {control} link set host master br0 up"))?;
    ip(&format!("addr add {}/24 dev {link}", addresses.host()))?;
    ip(&format!("link set {link} up"))?;
    ip(&format!("route add {} via {bridge}", addresses.pods()))?;

    for (name, number) in nodes.iter().zip(0u8..) {
        let space = run.node_namespace(name);
        add(Entry::Namespace { name: space.clone() })?;
        ip(&format!("netns add {space}"))?;
        ip(&format!("link add {name} netns {control} type veth peer name eth0 netns {space}"))?;
        ip(&format!("-n {control} link set {name} master br0 up"))?;
        ip(&format!("-n {space} link set lo up"))?;
        ip(&format!("-n {space} addr add {}/24 dev eth0", addresses.node(number)))?;
        ip(&format!("-n {space} link set eth0 up"))?;
        ip(&format!("-n {space} route add default via {bridge}"))?;
        forward(&space)?;
    }
    for (target, number) in nodes.iter().zip(0u8..) {
        let (subnet, via) = (addresses.pods_of(number), addresses.node(number));
        ip(&format!("-n {control} route add {subnet} via {via}"))?;
        for name in nodes.iter().filter(|name| *name != target) {
            ip(&format!("-n {} route add {subnet} via {via}", run.node_namespace(name)))?;
        }
    }
    // Services are known to the nodes alone: the first one is the host's and the control plane's way to them.
    let (services, first) = (addresses.services(), addresses.node(0));
    ip(&format!("route add {services} via {first}"))?;
    ip(&format!("-n {control} route add {services} via {first}"))?;
    Ok(())
}

fn forward(namespace: &str) -> Result<()> {
    set_in_namespace(namespace, "/proc/sys/net/ipv4/ip_forward", "1")
}

/// Cuts the cable of a node, or puts it back.
pub(crate) fn connect(run: &Run, node: &str, connected: bool) -> Result<()> {
    let state = if connected { "up" } else { "down" };
    ip(&format!("-n {} link set {node} {state}", run.namespace())).map(drop)
}

/// Whether the cable of a node is in place.
pub(crate) fn connected(run: &Run, node: &str) -> Result<bool> {
    Ok(ip(&format!("-n {} -o link show {node}", run.namespace()))?.contains("LOWER_UP"))
}

/// The table of rules of our own in a node's namespace, beside those of its kube-proxy.
const MUTED: &str = "kontrol-muted";

/// `nft` with the statements of `script`, in the namespace of a node.
fn nft(run: &Run, node: &str, script: &str) -> Result<String> {
    command("ip", &["netns", "exec", &run.node_namespace(node), "nft", script])
}

/// Drops what the pods of a node (those with these addresses) send to this TCP port, before any service's address is another one.
pub(crate) fn mute(run: &Run, node: &str, pods: &str, port: u16) -> Result<()> {
    unmute(run, node)?;
    let script = format!(
        "add table ip {MUTED}; \
         add chain ip {MUTED} pods {{ type filter hook prerouting priority -300; }}; \
         add rule ip {MUTED} pods ip saddr {pods} tcp dport {port} drop"
    );
    nft(run, node, &script).map(drop)
}

/// Lets all of it pass again.
pub(crate) fn unmute(run: &Run, node: &str) -> Result<()> {
    nft(run, node, &format!("add table ip {MUTED}; delete table ip {MUTED}")).map(drop)
}

/// Whether anything that the pods of a node send is dropped.
pub(crate) fn muted(run: &Run, node: &str) -> Result<bool> {
    Ok(nft(run, node, "list tables ip")?.contains(MUTED))
}

/// Removes a namespace, and the links in it. Nothing happens where it is gone.
pub(crate) fn remove_namespace(name: &str) -> Result<()> {
    if std::path::Path::new("/var/run/netns").join(name).exists() {
        ip(&format!("netns del {name}"))?;
    }
    Ok(())
}

/// Removes a link of the host. Nothing happens where it is gone.
pub(crate) fn remove_link(name: &str) -> Result<()> {
    if std::path::Path::new("/sys/class/net").join(name).exists() {
        // It goes with its peer's namespace, which may be gone a moment later than its name.
        if let Err(error) = ip(&format!("link del {name}"))
            && std::path::Path::new("/sys/class/net").join(name).exists()
        {
            return Err(error);
        }
    }
    Ok(())
}

/// Whether the host has a route into the addresses already.
pub(crate) fn taken(addresses: Addresses) -> Result<bool> {
    Ok(!ip(&format!("-4 route show root {}", addresses.all()))?.trim().is_empty())
}
