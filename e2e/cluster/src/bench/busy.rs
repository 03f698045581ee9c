//! A machine that has more to do than it has cores for.

use std::{
    fs, hint,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::clock::now;

/// Threads that compute nothing, until this is dropped.
pub(super) struct Busy {
    over: Arc<AtomicBool>,
    /// The load average, summed over looks, and the number of looks.
    looks: std::cell::Cell<(f64, u32)>,
}

impl Busy {
    pub(super) fn begin(threads: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        for _ in 0..threads {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let begun = now();
                    while begun.elapsed().as_millis() < 10 {
                        hint::spin_loop();
                    }
                }
            });
        }
        Self { over, looks: std::cell::Cell::new((0.0, 0)) }
    }

    /// The load average of the last minute.
    pub(super) fn load(&self) -> f64 {
        let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN);
        let (sum, count) = self.looks.get();
        self.looks.set((sum + load, count + 1));
        load
    }

    /// The mean of all loads that were asked for.
    pub(super) fn end(self) -> f64 {
        let (sum, count) = self.looks.get();
        sum / f64::from(count.max(1))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
