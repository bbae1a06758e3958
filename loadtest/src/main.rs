//! The command line of the load tests; what they do is the library's.

use std::process::ExitCode;

use clap::Parser as _;
use loadtest::Arguments;

fn main() -> anyhow::Result<ExitCode> {
    let outcome = loadtest::run(&Arguments::parse())?;
    println!("{}", outcome.text);
    for missed in &outcome.missed {
        eprintln!("missed: {missed}");
    }
    Ok(match outcome.failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}
