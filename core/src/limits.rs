//! Sizes that several parts have to agree on: what lint lets pass, and doors, links, the hub and the worlds take.

/// The largest message that a door takes, in bytes, its envelope included.
pub const MESSAGE: usize = 4 << 20;

/// What goes with a message at most, in bytes: the names of a request, what a dead letter adds.
pub const ENVELOPE: usize = 64 << 10;

/// The longest frame between sidecars and hub, in bytes, its header included: the largest message, its envelope, and small messages beside.
pub const FRAME: usize = MESSAGE + (1 << 20);

/// The smallest segment of the hub's log that a manifest may ask for, in bytes.
pub const SMALLEST_SEGMENT: u64 = 64 << 10;

/// The largest segment of the hub's log, in bytes.
pub const LARGEST_SEGMENT: u64 = 1 << 30;

/// How many segments the hub's log has room for at least.
pub const SEGMENTS: u64 = 4;

/// Segments are whole pages of this many bytes; what a manifest asks for beyond them is not used.
pub const SEGMENT_UNIT: u32 = 4 << 10;

/// The most replicas that a manifest or a user may ask for of one widget.
pub const REPLICAS: u32 = 1000;

/// The longest text that a widget gives with its health, in characters.
pub const REPORT_MESSAGE: usize = 1000;

/// The most numbers that a widget reports of itself.
pub const REPORT_NAMES: usize = 32;

/// The longest name of one of them, in characters.
pub const REPORT_NAME: usize = 63;

/// The most breakers that are not closed of which a sidecar tells.
pub const BREAKERS: usize = 32;

/// The longest reason of a breaker that is heard, in characters.
pub const BREAKER_REASON: usize = 200;

/// The most subscriptions in one message of a hub; of more it tells in several.
pub const SUBSCRIPTIONS: usize = 200;

/// The largest message on a control session to the operator, in bytes. What a sidecar says of its widget, within the limits above and in letters
/// of four bytes, is about 50 KiB; what a hub says of [`SUBSCRIPTIONS`] with the longest names is as much.
pub const SIGNALS: usize = 64 << 10;

/// The largest message that a log with segments of `segment` bytes takes: an eighth of one, and no more than a door takes.
pub const fn largest_message(segment: u64) -> u64 {
    let unit = SEGMENT_UNIT as u64;
    let eighth = segment / unit * unit / 8;
    if eighth < MESSAGE as u64 { eighth } else { MESSAGE as u64 }
}
