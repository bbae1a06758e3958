//! Prometheus' text format 0.0.4, read strictly: what a test is given either keeps every rule or
//! is refused with the first line that does not.

use std::collections::BTreeMap;

/// Samples by name and labels, such as `rows_total{job="job_1"}`.
pub type Samples = BTreeMap<String, f64>;

/// Reads a whole text.
///
/// # Errors
/// With the first rule that it breaks.
pub fn parse(text: &str) -> Result<Samples, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line does not end".to_owned());
    }
    let mut reader = Reader::default();
    for line in text.lines() {
        reader
            .line(line)
            .map_err(|rule| format!("{rule}: {line}"))?;
    }
    reader.end_family()?;
    Ok(reader.samples)
}

#[derive(Default)]
struct Reader {
    samples: Samples,
    /// Families whose lines have begun, with their kinds.
    families: BTreeMap<String, String>,
    family: Option<String>,
    help: Option<String>,
    /// Of the histogram that is being read, by labels without `le`: bounds and counts.
    buckets: BTreeMap<String, Vec<(f64, f64)>>,
    counts: BTreeMap<String, f64>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), &'static str> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, _) = rest.split_once(' ').ok_or("help without text")?;
            if self.help.replace(name.to_owned()).is_some() {
                return Err("help without a type");
            }
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("no type")?;
            return self.begin_family(name, kind);
        }
        if self.help.is_some() {
            return Err("help without a type");
        }
        self.sample(line)
    }

    fn begin_family(&mut self, name: &str, kind: &str) -> Result<(), &'static str> {
        self.end_family().map_err(|_| "a broken histogram above")?;
        if self.help.take().is_some_and(|help| help != name) {
            return Err("the help of another name");
        }
        if !is_name(name, true) {
            return Err("not a name");
        }
        if !["counter", "gauge", "histogram"].contains(&kind) {
            return Err("not a type");
        }
        if (kind == "counter") != name.ends_with("_total") {
            return Err("counters, and they alone, end in _total");
        }
        if self
            .families
            .insert(name.to_owned(), kind.to_owned())
            .is_some()
        {
            return Err("a second type");
        }
        self.family = Some(name.to_owned());
        Ok(())
    }

    fn sample(&mut self, line: &str) -> Result<(), &'static str> {
        let (name, rest) = line.split_at(line.find(['{', ' ']).ok_or("no value")?);
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => read_labels(rest)?,
            None => (Vec::new(), rest),
        };
        let value = value.strip_prefix(' ').ok_or("no blank before the value")?;
        let value = read_number(value).ok_or("not a number")?;
        let family = self.family.clone().ok_or("a sample before its type")?;
        let kind = self.families[&family].clone();
        let part = name
            .strip_prefix(family.as_str())
            .ok_or("a sample of another family")?;
        let key = |labels: &[(String, String)]| format!("{labels:?}");
        match (kind.as_str(), part) {
            ("histogram", "_bucket") => {
                let bound = labels
                    .iter()
                    .find(|(name, _)| name == "le")
                    .ok_or("no le")?;
                let bound = read_number(&bound.1).ok_or("le is no number")?;
                let rest: Vec<_> = labels
                    .iter()
                    .filter(|(name, _)| name != "le")
                    .cloned()
                    .collect();
                self.buckets
                    .entry(key(&rest))
                    .or_default()
                    .push((bound, value));
            }
            ("histogram", "_sum") => {}
            ("histogram", "_count") => {
                self.counts.insert(key(&labels), value);
            }
            ("counter", "") if value.is_nan() || value < 0.0 => return Err("a counter below zero"),
            ("counter" | "gauge", "") => {}
            _ => return Err("a sample of another family"),
        }
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        if self
            .samples
            .insert(format!("{name}{labels}"), value)
            .is_some()
        {
            return Err("a second sample of the same series");
        }
        Ok(())
    }

    /// Buckets must grow, end at infinity, and hold as many as there are.
    fn end_family(&mut self) -> Result<(), String> {
        let counts = std::mem::take(&mut self.counts);
        for (labels, buckets) in std::mem::take(&mut self.buckets) {
            let grows = buckets
                .windows(2)
                .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
            let last = buckets.last().copied();
            let all = counts.get(&labels).copied();
            if !grows
                || last.map(|(bound, _)| bound) != Some(f64::INFINITY)
                || last.map(|(_, count)| count) != all
            {
                return Err(format!("a broken histogram: {labels}"));
            }
        }
        Ok(())
    }
}

type Labels = Vec<(String, String)>;

/// From behind the opening brace; what is behind the closing one.
fn read_labels(mut rest: &str) -> Result<(Labels, &str), &'static str> {
    let mut labels = Labels::new();
    loop {
        let (name, value) = rest.split_once("=\"").ok_or("no label")?;
        if !is_name(name, false) || name.starts_with("__") {
            return Err("not a label's name");
        }
        let mut text = String::new();
        let mut characters = value.char_indices();
        let end = loop {
            match characters.next().ok_or("a label that does not end")? {
                (end, '"') => break end,
                (_, '\\') => match characters.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, c @ ('\\' | '"'))) => text.push(c),
                    _ => return Err("no such escape"),
                },
                (_, c) => text.push(c),
            }
        };
        if labels.iter().any(|(other, _)| other == name) {
            return Err("a label twice");
        }
        labels.push((name.to_owned(), text));
        rest = &value[end + 1..];
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        rest = rest.strip_prefix(',').ok_or("no comma between labels")?;
    }
}

fn is_name(name: &str, colons: bool) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    name.chars().all(fits) && name.starts_with(|c: char| !c.is_ascii_digit())
}

fn read_number(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_the_rules_is_read() {
        let text = "# HELP a_total What.\n# TYPE a_total counter\na_total{b=\"x\\\"\\\\\\n\"} 3\n\
                    # TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 5\nh_count 2\n";
        let samples = parse(text).expect("good");
        assert_eq!(samples["a_total{b=\"x\\\"\\\\\\n\"}"], 3.0);
        assert_eq!(samples["h_count"], 2.0);
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let wrong = [
            "a 1\n",
            "# TYPE a gauge\na 1",
            "# TYPE a gauge\na 1\na 2\n",
            "# TYPE a gauge\nb 1\n",
            "# TYPE a counter\na 1\n",
            "# TYPE a_total counter\na_total -1\n",
            "# TYPE a gauge\n# TYPE a gauge\n",
            "# TYPE a gauge\na{b=\"x\",b=\"y\"} 1\n",
            "# TYPE a gauge\na{b=\"x\\t\"} 1\n",
            "# TYPE a gauge\na{0=\"x\"} 1\n",
            "# TYPE a gauge\na one\n",
            "# HELP b Other.\n# TYPE a gauge\na 1\n",
            "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n",
            "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_count 1\n",
            "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 2\n",
        ];
        for text in wrong {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
