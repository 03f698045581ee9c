//! Percentiles of samples.

use std::time::Duration;

use super::results::Row;

/// Samples in milliseconds (or in any other unit, as long as it is one).
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    pub(super) fn push(&mut self, duration: Duration) {
        self.0.push(duration.as_secs_f64() * 1e3);
    }

    pub(super) fn push_value(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value that `percent` of the samples do not exceed, by nearest rank; 0 without samples.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn percentile(&self, percent: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    pub(super) fn row(&self, name: &str, unit: &str, note: impl Into<String>) -> Row {
        Row {
            name: name.to_owned(),
            unit: unit.to_owned(),
            n: self.len(),
            p50: self.percentile(50.0),
            p99: self.percentile(99.0),
            max: self.percentile(100.0),
            reference: None,
            ratio: None,
            note: note.into(),
        }
    }
}

/// The row of rates per second, one a round: the p99 is on the slow side.
pub(super) fn rates(name: &str, rates: &[f64], note: impl Into<String>) -> Row {
    let mut samples = Samples::default();
    for &rate in rates {
        samples.push_value(rate);
    }
    Row { p99: samples.percentile(1.0), ..samples.row(name, "1/s", note) }
}

/// The median of some figures, for those that are taken once a round.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut samples = Samples::default();
    for value in values {
        samples.push_value(value);
    }
    samples.percentile(50.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut samples = Samples::default();
        for value in (1..=200).rev() {
            samples.push_value(f64::from(value));
        }
        assert!((samples.percentile(50.0) - 100.0).abs() < f64::EPSILON);
        assert!((samples.percentile(99.0) - 198.0).abs() < f64::EPSILON);
        assert!((samples.percentile(100.0) - 200.0).abs() < f64::EPSILON);
        assert!(Samples::default().percentile(50.0).abs() < f64::EPSILON);
    }
}
