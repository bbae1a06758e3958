//! Firing windows: slices are merged, results leave in batches, slices are closed.

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::DataType,
};
use engine::{
    ChangeBatch,
    operator::{OperatorContext, OperatorError, Step},
};
use proto::plan::WindowProperty;

use super::{
    aggregate::WindowAggregateOperator,
    time_column::{time_array, times},
};
use crate::aggregate::AggregateStore;

/// A window on its way out.
pub(super) struct Firing {
    window: i64,
    groups: Vec<u32>,
    next: usize,
    source: Source,
}

/// Where its groups are.
enum Source {
    /// The only slice that has rows.
    Slice(i64),
    Merged(Box<AggregateStore>),
    Growing,
}

/// A CUMULATE window, which is the one before and some slices more.
pub(super) struct Growing {
    start: i64,
    /// Slices up to this one are in.
    pub(super) upto: i64,
    store: AggregateStore,
}

impl WindowAggregateOperator {
    /// Fires what is due, one batch per call; then closes slices and lets the watermark pass.
    pub(super) fn advance(
        &mut self,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        let Some(due) = self.target.as_ref().map(|target| target.due) else {
            return Ok(Step::Done);
        };
        loop {
            if let Some(firing) = self.firing.take() {
                if self.emit(firing, context)? {
                    return Ok(Step::More);
                }
                self.close();
                continue;
            }
            match self.first_window().filter(|window| *window <= due) {
                Some(window) => {
                    self.firing = Some(self.fire(window)?);
                    self.fired.advance(window);
                }
                None => break,
            }
        }
        if self.alarm.is_none() {
            self.fired.advance(due);
        }
        self.close();
        self.set_alarm(context.clock);
        let then = self.target.take().and_then(|target| target.then);
        then.into_iter()
            .for_each(|element| context.out.element(element));
        Ok(Step::Done)
    }

    /// Finds the groups of a window.
    fn fire(&mut self, window: i64) -> Result<Firing, OperatorError> {
        let source = self.source(window)?;
        let mut firing = Firing {
            window,
            groups: Vec::new(),
            next: 0,
            source,
        };
        if let Some(store) = self.store_of(&firing.source) {
            let mut groups = store.live();
            groups.retain(|group| store.main.values.has_rows(*group));
            if !self.fired.is_even() {
                let index = store.main.index();
                let fired = |slot: u32| self.fired.of(index.key_group(index.hash(slot)));
                groups.retain(|group| fired(*group) < window);
            }
            firing.groups = groups;
        }
        Ok(firing)
    }

    fn source(&mut self, window: i64) -> Result<Source, OperatorError> {
        let Some(slices) = self.windowing.slices().copied() else {
            return Ok(Source::Slice(window));
        };
        let first = slices.first_slice(window);
        if slices.is_cumulate() {
            self.grow(slices.start(window), first, window)?;
            return Ok(Source::Growing);
        }
        let mut filled = self.slices.range(first..=window);
        let one = filled.next().map_or(window, |(slice, _)| *slice);
        if filled.next().is_none() {
            return Ok(Source::Slice(one));
        }
        let mut merged = self.new_store(0)?;
        for (_, slice) in self.slices.range(first..=window) {
            merged.merge(slice)?;
        }
        Ok(Source::Merged(Box::new(merged)))
    }

    /// Brings the growing window up to `window`.
    fn grow(&mut self, start: i64, first: i64, window: i64) -> Result<(), OperatorError> {
        let mut growing = match self.growing.take() {
            Some(growing) if growing.start == start => growing,
            _ => Growing {
                start,
                upto: first - 1,
                store: self.new_store(0)?,
            },
        };
        for (_, slice) in self.slices.range(growing.upto + 1..=window) {
            growing.store.merge(slice)?;
        }
        growing.upto = window;
        self.growing = Some(growing);
        Ok(())
    }

    fn store_of<'a>(&'a self, source: &'a Source) -> Option<&'a AggregateStore> {
        match source {
            Source::Slice(slice) => self.slices.get(slice),
            Source::Merged(store) => Some(store),
            Source::Growing => self.growing.as_ref().map(|growing| &growing.store),
        }
    }

    /// Emits a batch of a window; `false`: there was none left.
    fn emit(
        &mut self,
        mut firing: Firing,
        context: &mut OperatorContext<'_>,
    ) -> Result<bool, OperatorError> {
        let end = firing
            .groups
            .len()
            .min(firing.next + context.scope.batch_rows.max(1));
        let groups = &firing.groups[firing.next..end];
        let Some(store) = self.store_of(&firing.source).filter(|_| !groups.is_empty()) else {
            return Ok(false);
        };
        let keys = store.main.index().keys_of(groups);
        let (mut columns, attached_starts) = self.encoder.decode(&keys)?;
        columns.extend(store.results(groups)?);
        for property in &self.properties {
            let data_type = self.schema.field(columns.len()).data_type().clone();
            columns.push(self.property(
                *property,
                &firing,
                groups.len(),
                attached_starts.as_ref(),
                &data_type,
            )?);
        }
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        context.out.batch(ChangeBatch::inserts(rows));
        firing.next = end;
        self.firing = Some(firing);
        Ok(true)
    }

    fn property(
        &self,
        property: WindowProperty,
        firing: &Firing,
        rows: usize,
        attached_starts: Option<&ArrayRef>,
        data_type: &DataType,
    ) -> Result<ArrayRef, OperatorError> {
        let window = firing.window;
        let time = match (property, self.windowing.slices()) {
            (WindowProperty::WindowStart, None) => {
                let starts = attached_starts.map(times).transpose()?.unwrap_or_default();
                return time_array(starts, data_type);
            }
            (WindowProperty::WindowStart, Some(slices)) => slices.start(window),
            (WindowProperty::WindowTime, _) => window - 1,
            (WindowProperty::WindowEnd | WindowProperty::Unspecified, _) => window,
        };
        time_array(vec![time; rows], data_type)
    }

    /// Closes the slices that no window needs any more.
    fn close(&mut self) {
        let windowing = self.windowing;
        while let Some(entry) = self.slices.first_entry() {
            let slice = *entry.key();
            if windowing.last_window(slice) > self.fired.upto() {
                return;
            }
            let store = entry.remove();
            if self.freeze.is_open {
                self.freeze.closed.push(store);
            }
        }
    }
}
