//! What queries should cost, in CPU seconds per million events of the whole process, generation and
//! checkpoints included, beside what Flink 2.3 was measured to take (public profile, state on the heap,
//! parallelism 2, object reuse, mini-batch, distinct split, blackhole sink, 10 s between checkpoints, 5 M
//! events, a quiet machine with 2 cores).

/// What one query should cost.
pub(super) struct Aim {
    pub(super) query: &'static str,
    /// Flink's figure, where there is one.
    pub(super) flink: Option<f64>,
    /// With all state in memory, in the public profile.
    pub(super) fit: f64,
    /// With memory for a fifth of the state.
    pub(super) limited: Option<f64>,
}

/// In the profile with many windows a query may cost this much more.
pub(super) const WINDOWS_FACTOR: f64 = 1.5;

const fn aim(query: &'static str, flink: f64, fit: f64) -> Aim {
    Aim {
        query,
        flink: Some(flink),
        fit,
        limited: None,
    }
}

const fn alone(query: &'static str, fit: f64) -> Aim {
    Aim {
        flink: None,
        ..aim(query, 0.0, fit)
    }
}

const fn limited(limited: f64, aim: Aim) -> Aim {
    Aim {
        limited: Some(limited),
        ..aim
    }
}

/// By query.
pub(super) const AIMS: &[Aim] = &[
    aim("q0", 2.3, 0.28),
    aim("q1", 2.0, 0.3),
    aim("q2", 1.8, 0.15),
    aim("q3", 1.9, 0.2),
    limited(4.0, aim("q4", 8.9, 1.0)),
    aim("q5", 5.6, 0.4),
    alone("q6", 2.0),
    aim("q7", 20.3, 1.2),
    aim("q8", 5.7, 0.3),
    limited(7.0, aim("q9", 17.6, 2.0)),
    alone("q10", 1.2),
    aim("q11", 5.3, 0.5),
    aim("q12", 3.4, 0.4),
    alone("q13", 0.5),
    aim("q14", 2.1, 0.4),
    aim("q15", 6.3, 1.0),
    aim("q16", 57.5, 3.0),
    aim("q17", 5.2, 0.7),
    limited(2.5, aim("q18", 6.4, 1.8)),
    aim("q19", 8.0, 1.5),
    limited(5.0, aim("q20", 12.2, 2.0)),
    aim("q21", 6.7, 0.8),
    aim("q22", 2.9, 0.6),
    alone("q23", 4.0),
];

/// What a query should cost, if that is known.
pub(super) fn of(query: &str) -> Option<&'static Aim> {
    AIMS.iter().find(|aim| aim.query == query)
}
