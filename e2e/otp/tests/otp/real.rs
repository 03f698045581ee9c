//! The model against the real `supervisor`: the same cases, and the same traces to the last act.
//!
//! `SEED=n` plays one case and prints both traces; `SCHEDULES=n` plays so many.

use std::{
    error::Error,
    fs::{self, File},
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    facts::{self, fact},
    trees,
};
use kontrol_otp::{Case, Coverage, Mix, generate_with, play, term};

/// How many schedules are played where the environment does not say.
const SCHEDULES: u64 = 2000;

#[test]
fn real_otp_plays_like_the_model() -> Result<(), Box<dyn Error>> {
    if !erlang_is_there("real_otp_plays_like_the_model")? {
        return Ok(());
    }
    let seeds = match number("SEED")? {
        Some(seed) => vec![seed],
        None => (0..number("SCHEDULES")?.unwrap_or(SCHEDULES)).collect(),
    };
    let cases: Vec<Case> = seeds.iter().map(|&seed| generate_with(seed, Mix::TIMELESS)).collect();
    let real = play_in_erlang(&cases)?;
    let mut coverage = Coverage::default();
    for ((seed, case), real) in seeds.iter().zip(&cases).zip(real) {
        let trace = play(case);
        let (term, model) = (term(*seed, case), trace.to_string());
        if seeds.len() == 1 {
            println!("{term}\n\nmodel\n{model}\nOTP\n{real}");
        }
        assert!(model == real, "replay with SEED={seed}\n{term}\n\nmodel\n{model}\nOTP\n{real}");
        coverage.record(case, &trace);
    }
    println!(
        "{} schedules like the real supervisor, {} events in the median, {} combinations met, {} gave up, {} shut down",
        coverage.schedules,
        coverage.median_events(),
        coverage.combinations.len(),
        coverage.gave_up,
        coverage.shut_down,
    );
    Ok(())
}

#[test]
fn each_fact_holds_in_the_real_otp() -> Result<(), Box<dyn Error>> {
    if !erlang_is_there("each_fact_holds_in_the_real_otp")? {
        return Ok(());
    }
    let facts = facts::all();
    let cases: Vec<Case> = facts.iter().map(|(_, fact)| fact.case.clone()).collect();
    for ((name, fact), real) in facts.iter().zip(play_in_erlang(&cases)?) {
        assert_eq!(real, fact.text(), "{name}");
    }
    println!("{} facts hold in the real supervisor", facts.len());
    Ok(())
}

#[test]
fn illegal_trees_do_not_start_in_the_real_otp() -> Result<(), Box<dyn Error>> {
    if !erlang_is_there("illegal_trees_do_not_start_in_the_real_otp")? {
        return Ok(());
    }
    let cases: Vec<Case> = trees::illegal().into_iter().map(|(root, _)| fact(root, [], "").case).collect();
    let refused = "refuse 0 |\n";
    assert_eq!(play_in_erlang(&cases)?, vec![refused; cases.len()]);
    Ok(())
}

/// Whether the tests can play. Where not, it says so, and notes it in the file that `KONTROL_SKIPPED` names, where skipped tests are
/// counted.
#[expect(clippy::print_stdout, reason = "whoever runs the tests is to see what was left out")]
fn erlang_is_there(test: &str) -> Result<bool, Box<dyn Error>> {
    let tools = ["erl", "erlc"];
    let missing = tools.into_iter().find(|tool| {
        Command::new(tool).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
    });
    let Some(tool) = missing else { return Ok(true) };
    let skipped = format!("{test}: no `{tool}` in PATH (Debian: erlang-base)");
    println!("skipped: {skipped}");
    if let Some(path) = std::env::var_os("KONTROL_SKIPPED") {
        let mut file = File::options().create(true).append(true).open(path)?;
        writeln!(file, "{skipped}")?;
    }
    Ok(false)
}

#[expect(clippy::disallowed_methods, reason = "a test's own switches")]
fn number(name: &str) -> Result<Option<u64>, Box<dyn Error>> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(text.parse().map_err(|error| format!("{name}={text}: {error}"))?)),
        Err(_) => Ok(None),
    }
}

/// Each case's trace as the player writes it.
fn play_in_erlang(cases: &[Case]) -> Result<Vec<String>, Box<dyn Error>> {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("player-{}-{}", std::process::id(), cases.len()));
    fs::create_dir_all(&folder)?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("erlang/player.erl");
    let compiled = Command::new("erlc").arg("-Werror").arg("-o").arg(&folder).arg(source).output()?;
    if !compiled.status.success() {
        return Err(format!("erlc: {}", String::from_utf8_lossy(&compiled.stdout)).into());
    }
    let lines: String = (0..).zip(cases).map(|(name, case)| term(name, case) + "\n").collect();
    let input = folder.join("cases");
    fs::write(&input, lines)?;
    let played = Command::new("erl")
        // One scheduler: the player and its tree wait for each other all the time.
        .args(["+S", "1:1", "-noshell", "-s", "player", "main", "-pa"])
        .arg(&folder)
        .stdin(File::open(&input)?)
        .output()?;
    fs::remove_dir_all(&folder)?;
    let text = String::from_utf8(played.stdout)?;
    let mut traces = Vec::new();
    for (number, block) in text.split_terminator("\n\n").enumerate() {
        match block.split_once('\n') {
            Some((name, trace)) if name == number.to_string() => traces.push(format!("{trace}\n")),
            _ => return Err(format!("the player wrote this as case {number}: {block}").into()),
        }
    }
    if !played.status.success() || traces.len() != cases.len() {
        return Err(format!(
            "the player played {} of {} cases: {}",
            traces.len(),
            cases.len(),
            played.status
        )
        .into());
    }
    Ok(traces)
}
