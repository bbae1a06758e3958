//! Figures as a table for people, in Markdown.

use std::fmt::Write as _;

use super::{
    bench::{Measured, Memory, Profile},
    machine::Machine,
    targets,
};

/// All figures: a section per profile and kind of memory.
pub(super) fn table(machine: &Machine, measured: &[Measured]) -> String {
    let mut text = format!(
        "# Nexmark\n\n{}\n\n\
         CPU seconds are of the whole process, generation and checkpoints included. Exactly-once checkpoints go \
         to a local directory. *Aim*: CPU seconds per million events that a query should take at most; \
         *Flink*: what Flink 2.3 takes with state on the heap.\n",
        machine.line(),
    );
    let mut sections: Vec<(Profile, Memory)> = Vec::new();
    for one in measured {
        if !sections.contains(&(one.profile, one.memory)) {
            sections.push((one.profile, one.memory));
        }
    }
    for (profile, memory) in sections {
        let of_section = measured
            .iter()
            .filter(|one| (one.profile, one.memory) == (profile, memory));
        section(&mut text, profile, memory, of_section);
    }
    text
}

fn section<'a>(
    text: &mut String,
    profile: Profile,
    memory: Memory,
    measured: impl Iterator<Item = &'a Measured>,
) {
    let (profile_is, memory_is) = (profile.description(), memory.description());
    let _ = write!(
        text,
        "\n## {profile_is}, {memory_is}\n\n\
         | query | events/s | events per CPU second | CPU s per M events | aim | Flink | peak RSS MB | state MB | \
         output rows | checkpoints | p99 ms |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    for one in measured {
        let figures = &one.figures;
        let known = |figure: Option<f64>| match figure {
            Some(figure) => ((figure * 100.0).round() / 100.0).to_string(),
            None => "–".to_owned(),
        };
        let flink = targets::of(&figures.query).and_then(|aim| aim.flink);
        let mega = |bytes: u64| bytes as f64 / 1e6;
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.0} | {:.3} | {} | {} | {:.0} | {:.0} | {} | {} | {:.0} |",
            figures.query,
            figures.events_per_second,
            figures.events_per_cpu_second,
            figures.cpu_seconds_per_million_events,
            known(one.aim()),
            known(flink),
            mega(figures.peak_rss_bytes),
            mega(figures.state_bytes),
            figures.output_rows,
            figures.checkpoints,
            figures.checkpoint_ms_p99,
        );
    }
}
