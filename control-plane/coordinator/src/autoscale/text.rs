//! Reasons in words.

use super::figures::{Figures, FragmentFigures, SourceFigures};

/// Why a fragment needs another number of tasks.
pub(super) fn resize(
    figures: &Figures,
    fragment: &FragmentFigures,
    target_percent: u32,
    (from, to): (u32, u32),
) -> String {
    let mut text = format!("{}, {}", brings(&figures.sources), named(fragment));
    if let Some(rate) = fragment.per_task_per_s {
        text.push_str(&format!(
            " takes {} of that and does {} per task, at {target_percent} % of its time {}",
            rate_text(fragment.target_per_s),
            rate_text(rate),
            rate_text(rate * f64::from(target_percent) / 100.0),
        ));
    }
    if fragment.hot > 0.0 {
        let hot = percent(fragment.hot);
        text.push_str(&format!(", {hot} % of its rows stay at one task"));
    }
    format!("{text}: {from} -> {to}")
}

/// Why a step is taken back.
pub(super) fn no_help(fragment: &FragmentFigures, (from, to): (u32, u32), gain: f64) -> String {
    format!(
        "{} does {} times as much with {to} tasks as with {from}: {to} -> {from}, until another load comes",
        named(fragment),
        (gain * 100.0).round() / 100.0,
    )
}

/// Why a fragment is outside the bounds of its policy.
pub(super) fn bounds(fragment: &FragmentFigures, (from, to): (u32, u32)) -> String {
    format!(
        "the policy's bounds have no room for the {from} of {}: {from} -> {to}",
        named(fragment)
    )
}

/// Why tasks would not help a fragment that waits for state.
pub(super) fn state_bound(fragment: &FragmentFigures) -> String {
    format!(
        "{} waits for state {} % of its time and works {} %: more tasks would wait as well; it needs \
         more memory for its state",
        named(fragment),
        percent(fragment.state_wait),
        percent(fragment.busy),
    )
}

/// Why tasks do not help against a hot key.
pub(super) fn hot_key(fragment: &FragmentFigures) -> String {
    format!(
        "one task of {} works {} % of its time, all on average {} %: {} % of the rows stay at one, by a \
         hot key or for want of splits, and more tasks do not share them out",
        named(fragment),
        percent(fragment.busiest),
        percent(fragment.busy),
        percent(fragment.hot),
    )
}

/// What keeps a fragment from having the tasks that it needs.
pub(super) fn limited(fragment: &FragmentFigures, limit: u32) -> String {
    let needed = fragment.needed;
    match fragment.singleton {
        true => format!(
            "{} would need {needed} tasks and can only run as one",
            named(fragment)
        ),
        false => format!(
            "{} would need {needed} tasks, and there may be at most {limit}",
            named(fragment)
        ),
    }
}

/// What came up before a step at the same load and is not repeated.
pub(super) fn tried(fragment: &FragmentFigures, tasks: u32) -> String {
    format!(
        "{} would need {} tasks by its figures, but more than {tasks} did not help at this load",
        named(fragment),
        fragment.needed,
    )
}

fn named(fragment: &FragmentFigures) -> String {
    match fragment.name.is_empty() {
        true => format!("fragment {}", fragment.fragment),
        false => format!("fragment {} ({})", fragment.fragment, fragment.name),
    }
}

/// What sources bring, and what waits there.
fn brings(sources: &[SourceFigures]) -> String {
    let one = |source: &SourceFigures| {
        let mut text = format!(
            "source `{}` brings {}",
            source.table,
            rate_text(source.arrival_per_s)
        );
        if source.target_per_s > source.arrival_per_s
            && let Some(waiting) = source.backlog_rows
        {
            text.push_str(&format!(" and has {} rows waiting", count(waiting as f64)));
        }
        text
    };
    let all: Vec<String> = sources.iter().map(one).collect();
    match all.is_empty() {
        true => "nothing comes in".to_owned(),
        false => all.join(", "),
    }
}

fn percent(part: f64) -> u32 {
    (part * 100.0).round().clamp(0.0, 100.0) as u32
}

fn rate_text(per_s: f64) -> String {
    format!("{} rows/s", count(per_s))
}

/// Three digits at most: 950, 31k, 1.2M.
pub(super) fn count(rows: f64) -> String {
    let (scaled, unit) = match rows {
        rows if rows >= 999.5e6 => (rows / 1e9, "G"),
        rows if rows >= 999.5e3 => (rows / 1e6, "M"),
        rows if rows >= 999.5 => (rows / 1e3, "k"),
        rows => (rows, ""),
    };
    match scaled {
        scaled if scaled >= 9.95 || scaled == 0.0 => format!("{scaled:.0}{unit}"),
        scaled => {
            let text = format!("{scaled:.1}");
            let text = text.strip_suffix(".0").unwrap_or(&text);
            format!("{text}{unit}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_at_most() {
        let check = |rows: f64, expected: &str| assert_eq!(count(rows), expected);
        check(0.0, "0");
        check(0.33, "0.3");
        check(7.0, "7");
        check(9.96, "10");
        check(950.4, "950");
        check(999.6, "1k");
        check(31_400.0, "31k");
        check(1_240_000.0, "1.2M");
        check(999_600_000.0, "1G");
    }
}
