//! Rows of the table: times of many rounds, or how often something happened.

use std::time::Duration;

use serde::Serialize;

/// One row.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Of times: how often. Of a count: out of how many, or in how many minutes.
    pub n: usize,
    /// What was seen.
    #[serde(flatten)]
    pub seen: Seen,
}

/// What a row shows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", untagged)]
pub enum Seen {
    /// Times, in milliseconds.
    Times {
        /// The median.
        p50: f64,
        /// The 99th percentile: the highest where there are fewer than a hundred.
        p99: f64,
        /// The highest.
        highest: f64,
    },
    /// How often it happened.
    Count {
        /// So often.
        count: u64,
    },
}

impl Row {
    /// A row of times.
    pub(super) fn times(name: &str, times: &[Duration]) -> Self {
        let mut times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        let at = |index: usize| times.get(index).copied().unwrap_or(f64::NAN);
        let n = times.len();
        // The smallest time that 99 of 100 do not exceed.
        let rank = (n * 99).div_ceil(100).saturating_sub(1);
        let p50 = f64::midpoint(at(n.saturating_sub(1) / 2), at(n / 2));
        let seen = Seen::Times { p50, p99: at(rank), highest: at(n.saturating_sub(1)) };
        Self { name: name.to_owned(), n, seen }
    }

    /// A row that counts.
    pub(super) fn count(name: &str, n: usize, count: u64) -> Self {
        Self { name: name.to_owned(), n, seen: Seen::Count { count } }
    }

    /// In words.
    pub fn line(&self) -> String {
        let Self { name, n, seen } = self;
        match seen {
            Seen::Times { p50, p99, .. } => format!("{name}: p50 {p50:.0} ms, p99 {p99:.0} ms, n = {n}"),
            Seen::Count { count } => format!("{name}: {count} of {n}"),
        }
    }

    /// A table of rows.
    pub fn table(rows: &[Self]) -> String {
        let head = [
            "| what | p50 | p99 | highest, or count | n |".to_owned(),
            "| --- | --- | --- | --- | --- |".to_owned(),
        ];
        let lines = rows.iter().map(|Self { name, n, seen }| match seen {
            Seen::Times { p50, p99, highest } => {
                format!("| {name} | {p50:.0} ms | {p99:.0} ms | {highest:.0} ms | {n} |")
            }
            Seen::Count { count } => format!("| {name} | | | {count} | {n} |"),
        });
        head.into_iter().chain(lines).collect::<Vec<_>>().join("\n")
    }
}

/// Rows of times.
pub(super) fn times<const N: usize>(rows: [(&str, Vec<Duration>); N]) -> Vec<Row> {
    rows.into_iter().map(|(name, times)| Row::times(name, &times)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_sorted_and_the_highest_of_few_is_the_p99() {
        let millis = [3, 1, 2, 4].map(Duration::from_millis);
        let row = Row::times("a", &millis);
        assert_eq!((row.n, row.seen), (4, Seen::Times { p50: 2.5, p99: 4.0, highest: 4.0 }));
    }

    #[test]
    fn a_table_has_a_line_for_each_row_and_one_column_for_what_is_counted() {
        let rows = [Row::times("a", &[Duration::from_millis(2)]), Row::count("b", 30, 0)];
        let table = Row::table(&rows);
        let lines: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(lines, ["| a | 2 ms | 2 ms | 2 ms | 1 |", "| b | | | 0 | 30 |"]);
    }
}
