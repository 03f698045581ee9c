//! Names in memory: each text once, however many objects have it.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

/// Below so many texts nobody looks for those that are no longer in use.
const FEW: usize = 1024;

static TEXTS: LazyLock<Mutex<Texts>> = LazyLock::new(|| Mutex::new(Texts::default()));

/// A text that many have, such as the name of a namespace or of an owner: one copy in this process, for as long as anybody has it.
pub fn shared(text: &str) -> Arc<str> {
    // Nothing that panics is done under the lock.
    TEXTS.lock().unwrap_or_else(PoisonError::into_inner).shared(text)
}

#[derive(Debug, Default)]
struct Texts {
    known: HashSet<Arc<str>>,
    /// How many were in use when that was looked at last.
    used: usize,
}

impl Texts {
    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return Arc::clone(known);
        }
        // One look for a quarter as many new ones as there were: it costs each of them the same, however many there are.
        if self.known.len() >= FEW.max(self.used + self.used / 4) {
            self.known.retain(|text| Arc::strong_count(text) > 1);
            self.used = self.known.len();
        }
        let new: Arc<str> = text.into();
        self.known.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one() {
        let mut texts = Texts::default();
        assert!(Arc::ptr_eq(&texts.shared("a"), &texts.shared("a")));
        assert_eq!(&*texts.shared("b"), "b");
    }

    #[test]
    fn what_nobody_has_any_more_does_not_stay() {
        let mut texts = Texts::default();
        let kept = texts.shared("kept");
        for number in 0..10 * FEW {
            drop(texts.shared(&number.to_string()));
        }
        assert!(texts.known.len() <= FEW, "{}", texts.known.len());
        assert!(Arc::ptr_eq(&kept, &texts.shared("kept")));
    }
}
