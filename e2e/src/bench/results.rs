//! Rows of results, as JSON and as a table.

use std::{fmt::Write as _, fs, io, path::Path};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::bars::bar;

/// One measured figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was measured, such as `restart.process`.
    pub name: String,
    /// `ms`, `MiB`, `1/s` or `count`.
    pub unit: String,
    /// Samples.
    pub n: usize,
    /// The median.
    pub p50: f64,
    /// The value that 99 in 100 samples do not exceed; of rates: that 99 in 100 samples reach.
    pub p99: f64,
    /// The largest sample.
    pub max: f64,
    /// The same measurement of something else, in the same minutes.
    pub reference: Option<Reference>,
    /// Ours over the reference's, of the medians.
    pub ratio: Option<f64>,
    /// How it was taken, and what else was seen.
    pub note: String,
}

/// What a row is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// What it is.
    pub name: String,
    /// Its median.
    pub p50: f64,
    /// Its 99th percentile.
    pub p99: f64,
}

impl Row {
    /// This row compared with `other`.
    #[must_use]
    pub fn against(mut self, other: &Self) -> Self {
        self.ratio = (other.p50 > 0.0).then(|| self.p50 / other.p50);
        self.reference = Some(Reference { name: other.name.clone(), p50: other.p50, p99: other.p99 });
        self
    }
}

/// All rows of a results file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results(Vec<Row>);

impl Results {
    /// Reads the file; one that is not there has no rows.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => Ok(Self(
                serde_json::from_slice(&bytes)
                    .with_context(|| format!("{} is no list of results; remove it", path.display()))?,
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Puts a row in the place of the one of its name, or at the end.
    pub fn merge(&mut self, row: Row) {
        match self.0.iter_mut().find(|old| old.name == row.name) {
            Some(old) => *old = row,
            None => self.0.push(row),
        }
    }

    /// Writes the file and the folder it is in.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        fs::write(path, serde_json::to_vec_pretty(&self.0)?)
            .with_context(|| format!("writing {}", path.display()))
    }
}

/// The rows for people; what was seen beside the figures follows each.
pub(super) fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or_default();
    let mut text = format!(
        "{:width$} {:>6} {:>11} {:>11} {:>11} {:5} {:>10} {:>7}  bar\n",
        "name", "n", "p50", "p99", "max", "unit", "reference", "ratio"
    );
    for row in rows {
        let reference =
            row.reference.as_ref().map_or_else(String::new, |reference| format!("{:.3}", reference.p50));
        let ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let bar = bar(row)
            .map_or_else(String::new, |(bar, met)| format!("{bar}: {}", if met { "met" } else { "NOT MET" }));
        // Writing to a String cannot fail.
        let _ignored = writeln!(
            text,
            "{:width$} {:>6} {:>11.3} {:>11.3} {:>11.3} {:5} {reference:>10} {ratio:>7}  {bar}\n{:width$}        {}",
            row.name, row.n, row.p50, row.p99, row.max, row.unit, "", row.note
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, p50: f64) -> Row {
        Row {
            name: name.to_owned(),
            unit: "ms".to_owned(),
            n: 1,
            p50,
            p99: p50,
            max: p50,
            reference: None,
            ratio: None,
            note: String::new(),
        }
    }

    #[test]
    fn a_part_of_a_run_replaces_its_rows_and_keeps_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bench/results.json");
        let mut results = Results::read(&path).unwrap();
        results.merge(row("a", 1.0));
        results.merge(row("b", 2.0));
        results.write(&path).unwrap();
        let mut again = Results::read(&path).unwrap();
        again.merge(row("a", 3.0).against(&row("bare", 1.5)));
        again.write(&path).unwrap();
        let rows = Results::read(&path).unwrap().0;
        assert_eq!(
            rows.iter().map(|row| (row.name.as_str(), row.p50)).collect::<Vec<_>>(),
            [("a", 3.0), ("b", 2.0)]
        );
        assert_eq!(rows[0].ratio, Some(2.0));
    }

    #[test]
    fn the_table_says_which_bar_is_met() {
        let text =
            table(&[row("restart.process", 50.1), row("signal.to_decision", 500.0), row("call.path", 1.0)]);
        let said: Vec<_> = text.lines().skip(1).step_by(2).map(|line| line.contains("NOT MET")).collect();
        assert_eq!(said, [true, false, false]);
        assert_eq!(text.matches(": met").count(), 1);
    }
}
