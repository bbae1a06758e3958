//! When rows are due: at one rate, or at rates that follow each other again and again.

use proto::plan::{DatagenRate, DatagenSpec};

/// Time goes on by this rate where none is set.
const DEFAULT_ROWS_PER_SECOND: u64 = 10_000;

/// Rows and times, each by the other. Rows are counted in thousandths: so many as a rate of one row
/// per second brings in a millisecond.
#[derive(Debug)]
pub(super) struct Rate {
    steps: Vec<DatagenRate>,
    cycle_ms: u64,
    cycle_thousandths: u128,
    paced: bool,
}

impl Rate {
    /// The rate of a table.
    ///
    /// # Errors
    /// When no row ever comes, or a step takes no time.
    pub(super) fn new(spec: &DatagenSpec) -> Result<Rate, String> {
        let step = |rows_per_second| DatagenRate {
            rows_per_second,
            duration_ms: 1000,
        };
        let (steps, paced) = match (spec.rates.as_slice(), spec.rows_per_second) {
            ([], 0) => (vec![step(DEFAULT_ROWS_PER_SECOND)], false),
            ([], rate) => (vec![step(rate)], true),
            (rates, _) => (rates.to_vec(), true),
        };
        if steps.iter().any(|step| step.duration_ms == 0) {
            return Err("a rate must hold for some time".to_owned());
        }
        let add = |sum: u64, step: &DatagenRate| sum.saturating_add(step.duration_ms);
        let cycle_ms = steps.iter().fold(0, add);
        let cycle_thousandths = steps.iter().map(thousandths).sum();
        if cycle_thousandths == 0 {
            return Err("one of the rates must be above 0".to_owned());
        }
        Ok(Rate {
            steps,
            cycle_ms,
            cycle_thousandths,
            paced,
        })
    }

    /// Whether rows wait until they are due.
    pub(super) fn is_paced(&self) -> bool {
        self.paced
    }

    /// Milliseconds from the first row to this one.
    pub(super) fn elapsed_ms(&self, row: u64) -> i64 {
        let wanted = u128::from(row) * 1000;
        // One rate is what most tables have, and this is asked for every row.
        if let [step] = self.steps.as_slice() {
            let ms = wanted / u128::from(step.rows_per_second);
            return i64::try_from(ms).unwrap_or(i64::MAX);
        }
        let cycles = wanted / self.cycle_thousandths;
        let mut rest = wanted % self.cycle_thousandths;
        let mut ms = cycles.saturating_mul(u128::from(self.cycle_ms));
        for step in &self.steps {
            let here = thousandths(step);
            if rest < here {
                ms = ms.saturating_add(rest / u128::from(step.rows_per_second));
                break;
            }
            rest -= here;
            ms = ms.saturating_add(u128::from(step.duration_ms));
        }
        i64::try_from(ms).unwrap_or(i64::MAX)
    }

    /// Rows that are due after so many milliseconds.
    pub(super) fn due(&self, elapsed_ms: i64) -> u64 {
        let elapsed = elapsed_ms.max(0).unsigned_abs();
        let cycles = u128::from(elapsed / self.cycle_ms);
        let mut rest = elapsed % self.cycle_ms;
        let mut came = cycles.saturating_mul(self.cycle_thousandths);
        for step in &self.steps {
            let ms = rest.min(step.duration_ms);
            let here = u128::from(ms) * u128::from(step.rows_per_second);
            came = came.saturating_add(here);
            rest -= ms;
        }
        u64::try_from(came / 1000 + 1).unwrap_or(u64::MAX)
    }
}

fn thousandths(step: &DatagenRate) -> u128 {
    u128::from(step.rows_per_second) * u128::from(step.duration_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(rows_per_second: u64, steps: &[(u64, u64)]) -> Result<Rate, String> {
        let step = |(rows_per_second, duration_ms): &(u64, u64)| DatagenRate {
            rows_per_second: *rows_per_second,
            duration_ms: *duration_ms,
        };
        Rate::new(&DatagenSpec {
            rows_per_second,
            rates: steps.iter().map(step).collect(),
            ..DatagenSpec::default()
        })
    }

    #[test]
    fn rates_follow_each_other() {
        // 10, 40 and no rows in a cycle of three seconds.
        let rate = rate(0, &[(10, 1000), (40, 1000), (0, 1000)]).unwrap();
        assert!(rate.is_paced());
        for (row, ms) in [
            (0, 0),
            (9, 900),
            (10, 1000),
            (11, 1025),
            (49, 1975),
            (50, 3000),
            (59, 3900),
            (60, 4000),
        ] {
            assert_eq!(rate.elapsed_ms(row), ms, "row {row}");
            assert_eq!(rate.due(ms), row + 1, "{ms} ms");
        }
        assert_eq!(rate.due(2999), 51);
    }

    #[test]
    fn due_and_elapsed_agree_for_any_rate() {
        for steps in [
            vec![(3, 1000)],
            vec![(7, 10), (1, 777)],
            vec![(999_983, 3), (0, 5)],
        ] {
            let rate = rate(0, &steps).unwrap();
            let mut last = 0;
            for row in 0..5_000 {
                let ms = rate.elapsed_ms(row);
                assert!(ms >= last, "time goes on");
                last = ms;
                // Cut off to whole milliseconds, a row's time is before it.
                assert!(rate.due(ms + 1) > row, "{steps:?}, row {row} at {ms}");
                assert!(
                    ms == 0 || rate.due(ms - 1) <= row + 1,
                    "{steps:?}, row {row}"
                );
            }
        }
    }

    #[test]
    fn what_never_comes_is_refused() {
        assert!(rate(0, &[(0, 1000)]).is_err());
        assert!(rate(0, &[(5, 0)]).is_err());
        assert!(!rate(0, &[]).unwrap().is_paced());
        assert_eq!(rate(100, &[]).unwrap().elapsed_ms(25), 250);
    }
}
