//! Ratios with their budgets, and the page that tells them.

use anyhow::Result;
use serde_json::{Value, json};
use std::{fmt::Write as _, fs, path::Path};

/// A ratio with its budget, or a figure that has none.
pub(crate) struct Figure {
    name: String,
    what: &'static str,
    budget: Option<f64>,
    ratios: Vec<f64>,
}

impl Figure {
    /// A figure without rounds yet.
    pub(crate) fn new(name: impl Into<String>, what: &'static str, budget: f64) -> Self {
        Self { name: name.into(), what, budget: Some(budget), ratios: Vec::new() }
    }

    /// A figure that is told and has no bounds.
    pub(crate) fn without_budget(name: impl Into<String>, what: &'static str) -> Self {
        Self { name: name.into(), what, budget: None, ratios: Vec::new() }
    }

    /// Takes a round: what was measured, and its yardstick.
    pub(crate) fn add(&mut self, measured: f64, yardstick: f64) {
        self.ratios.push(measured / yardstick);
    }

    fn median(&self) -> f64 {
        let mut sorted = self.ratios.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = |at: usize| sorted.get(at).copied().unwrap_or(f64::NAN);
        let half = sorted.len() / 2;
        if sorted.len() % 2 == 1 {
            middle(half)
        } else {
            f64::midpoint(middle(half.wrapping_sub(1)), middle(half))
        }
    }

    fn spread(&self) -> (f64, f64) {
        let fold =
            |start: f64, pick: fn(f64, f64) -> f64| self.ratios.iter().copied().fold(start, pick);
        (fold(f64::INFINITY, f64::min), fold(f64::NEG_INFINITY, f64::max))
    }

    /// Whether the median is within the budget. Without a round it is not.
    pub(crate) fn holds(&self) -> bool {
        self.median() <= self.budget.unwrap_or(f64::INFINITY)
    }

    /// As the last line of the command tells it.
    pub(crate) fn to_json(&self) -> Value {
        let (least, most) = self.spread();
        json!({ "name": self.name, "ratio": round(self.median()), "spread": [round(least), round(most)],
            "budget": self.budget, "holds": self.holds() })
    }
}

fn round(ratio: f64) -> f64 {
    (ratio * 10_000.0).round() / 10_000.0
}

/// What one bench has found.
pub(crate) struct Section {
    /// Its name, as the command takes it.
    pub name: &'static str,
    /// What was measured against what, for the page.
    pub text: String,
    /// The ratios.
    pub figures: Vec<Figure>,
}

const HEAD: &str = "# Benchmarks

Written by `cargo xtask bench`. A figure is a ratio against a yardstick that was measured in the same
run, in alternating rounds of programs in the release profile: the median of the rounds' ratios, the
least and the most of them. Absolute times would tell more of the machine than of the product.
";

/// Writes a section into the page, in the place of an older one of its name.
pub(crate) fn write(page: &Path, section: &Section, rounds: usize) -> Result<()> {
    let before = if page.exists() { fs::read_to_string(page)? } else { String::new() };
    let title = format!("{}\n", section.name);
    let mut others: Vec<String> = before
        .split("\n## ")
        .skip(1)
        .filter(|other| !other.starts_with(&title))
        .map(|other| format!("{}\n", other.trim_end()))
        .collect();
    let mut text = format!("{title}\n{} Rounds: {rounds}.\n\n", section.text);
    text += "| figure | ratio | least to most | budget | |\n| --- | --- | --- | --- | --- |\n";
    for figure in &section.figures {
        let (least, most) = figure.spread();
        let (budget, holds) = match figure.budget {
            None => (String::new(), ""),
            Some(budget) if figure.holds() => (format!("{budget:.2}"), "holds"),
            Some(budget) => (format!("{budget:.2}"), "**missed**"),
        };
        writeln!(
            text,
            "| {}: {} | {:.3} | {least:.3} to {most:.3} | {budget} | {holds} |",
            figure.name,
            figure.what,
            figure.median(),
        )?;
    }
    others.push(text);
    others.sort();
    Ok(fs::write(page, format!("{HEAD}\n## {}", others.join("\n## ")))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(ratios: &[f64]) -> Figure {
        let mut figure = Figure::new("a: b", "c", 1.05);
        ratios.iter().for_each(|ratio| figure.add(*ratio, 1.0));
        figure
    }

    #[test]
    fn the_median_counts_and_without_a_round_nothing_holds() {
        assert!(figure(&[9.0, 1.0, 1.05]).holds());
        assert!(!figure(&[1.06, 1.06, 0.1]).holds());
        assert!(!figure(&[1.0, 1.2]).holds());
        assert!(!figure(&[]).holds());
        let mut plain = Figure::without_budget("a", "b");
        assert!(!plain.holds(), "nothing was measured");
        plain.add(1e9, 1.0);
        assert!(plain.holds());
        assert_eq!(figure(&[3.0, 1.0, 2.0]).spread(), (1.0, 3.0));
    }

    #[test]
    fn a_section_takes_the_place_of_its_elder_and_leaves_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("page.md");
        let section = |name, ratio| Section {
            name,
            text: format!("Text of {name}."),
            figures: vec![figure(&[ratio])],
        };
        write(&page, &section("two", 1.0), 1).unwrap();
        write(&page, &section("one", 1.0), 1).unwrap();
        let once = fs::read_to_string(&page).unwrap();
        write(&page, &section("two", 7.0), 1).unwrap();
        let twice = fs::read_to_string(&page).unwrap();
        let two = "| a: b: c | 1.000 | 1.000 to 1.000 | 1.05 | holds |\n\n## two";
        assert!(once.contains(two), "{once}");
        assert_eq!(twice.matches("\n## ").count(), 2);
        assert!(twice.contains("| 7.000 | 7.000 to 7.000 | 1.05 | **missed** |"), "{twice}");
    }
}
