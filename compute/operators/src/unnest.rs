//! UNNEST: a row per element of its collection. Elements come out a chunk at a time.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray as _, Int32Array, RecordBatch, StructArray, UInt32Array},
    buffer::{NullBuffer, OffsetBuffer},
    compute::take,
    datatypes::{Int32Type, SchemaRef},
};
use engine::{
    ChangeBatch, Kinds,
    operator::{Operator, OperatorContext, OperatorError, Step},
    schema::arrow_schema,
};
use proto::{
    plan,
    types::{DataType, Field, LogicalType},
};

use crate::rows;

/// The operator of a [`plan::Unnest`]. Appends the element (the fields of a ROW, key and value of
/// a map) and its ordinal, where asked, an INT from 1.
pub struct UnnestOperator {
    column: usize,
    collection: Collection,
    /// The element is a ROW whose fields are columns.
    is_row: bool,
    keeps_empty: bool,
    with_ordinality: bool,
    schema: SchemaRef,
    batch_rows: usize,
    pending: Option<Pending>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Collection {
    Array,
    Map,
    /// Each element as often as its count says.
    Multiset,
}

/// A batch that is being unnested.
struct Pending {
    batch: ChangeBatch,
    offsets: OffsetBuffer<i32>,
    nulls: Option<NullBuffer>,
    /// Columns of the elements.
    elements: Vec<ArrayRef>,
    /// Of elements that are ROWs: a NULL one makes no row, though it has an ordinal.
    element_nulls: Option<NullBuffer>,
    /// Per element, of a multiset.
    counts: Option<Int32Array>,
    row: usize,
    /// Elements of the row that are done, copies of the next one that are done, ordinal.
    element: usize,
    copy: i32,
    ordinal: i32,
    /// The row has put out an element.
    has_put: bool,
}

/// Rows of the next chunk.
#[derive(Default)]
struct Chunk {
    rows: Vec<u32>,
    elements: Vec<Option<u32>>,
    ordinals: Vec<Option<i32>>,
}

impl UnnestOperator {
    /// An unnesting of a column of `input`.
    ///
    /// # Errors
    /// When the plan cannot be run.
    pub fn build(
        spec: &plan::Unnest,
        input: &[Field],
        batch_rows: usize,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        let column = rows::column(spec.column, input)?;
        let mut output = input.to_vec();
        let mut element = |element: &DataType| match &element.logical {
            LogicalType::Row(fields) => {
                output.extend_from_slice(fields);
                true
            }
            _ => {
                output.push(Field::new("EXPR$0", element.clone()));
                false
            }
        };
        let (collection, is_row) = match &input[column].data_type.logical {
            LogicalType::Array(item) => (Collection::Array, element(item)),
            LogicalType::Multiset(item) => (Collection::Multiset, element(item)),
            LogicalType::Map(key, value) => {
                output.push(Field::new("KEY", (**key).clone()));
                output.push(Field::new("VALUE", (**value).clone()));
                (Collection::Map, false)
            }
            other => return Err(OperatorError::Plan(format!("UNNEST of {other}"))),
        };
        if spec.with_ordinality {
            output.push(Field::new("ORDINALITY", LogicalType::Int.nullable()));
        }
        Ok(Box::new(UnnestOperator {
            column,
            collection,
            is_row,
            keeps_empty: spec.left,
            with_ordinality: spec.with_ordinality,
            schema: arrow_schema(&output),
            batch_rows: batch_rows.max(1),
            pending: None,
        }))
    }

    fn begin(&self, batch: ChangeBatch) -> Pending {
        let column = batch.rows.column(self.column);
        let (offsets, nulls, values, counts) = match self.collection {
            Collection::Array => {
                let list = column.as_list::<i32>();
                (list.offsets(), list.nulls(), list.values(), None)
            }
            Collection::Map => {
                let map = column.as_map();
                (map.offsets(), map.nulls(), map.keys(), None)
            }
            Collection::Multiset => {
                let map = column.as_map();
                let counts = map.values().as_primitive::<Int32Type>().clone();
                (map.offsets(), map.nulls(), map.keys(), Some(counts))
            }
        };
        let (offsets, nulls) = (offsets.clone(), nulls.cloned());
        let mut elements = vec![Arc::clone(values)];
        let mut element_nulls = None;
        if self.is_row {
            let rows: &StructArray = values.as_struct();
            elements = rows.columns().to_vec();
            element_nulls = rows.nulls().cloned();
        } else if self.collection == Collection::Map {
            elements.push(Arc::clone(column.as_map().values()));
        }
        Pending {
            batch,
            offsets,
            nulls,
            elements,
            element_nulls,
            counts,
            row: 0,
            element: 0,
            copy: 0,
            ordinal: 0,
            has_put: false,
        }
    }

    fn run(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        while let Some(pending) = &mut self.pending {
            if context.out.num_rows() >= self.batch_rows {
                return Ok(Step::More);
            }
            let chunk = pending.next_chunk(self.batch_rows, self.keeps_empty);
            let is_done = pending.row == pending.batch.num_rows();
            if !chunk.rows.is_empty() {
                let batch = pending.gather(&chunk, self.with_ordinality, &self.schema)?;
                context.out.batch(batch);
            }
            if is_done {
                self.pending = None;
            }
        }
        Ok(Step::Done)
    }
}

impl Pending {
    fn next_chunk(&mut self, rows_max: usize, keeps_empty: bool) -> Chunk {
        let mut chunk = Chunk::default();
        while self.row < self.batch.num_rows() && chunk.rows.len() < rows_max {
            let start = self.offsets[self.row] as usize;
            let is_null = self
                .nulls
                .as_ref()
                .is_some_and(|nulls| nulls.is_null(self.row));
            let length = self.offsets[self.row + 1] as usize - start;
            let length = if is_null { 0 } else { length };
            if self.element == length {
                if !self.has_put && keeps_empty {
                    chunk.push(self.row, None, None);
                }
                self.row += 1;
                (self.element, self.copy, self.ordinal) = (0, 0, 0);
                self.has_put = false;
                continue;
            }
            let element = start + self.element;
            let copies = self
                .counts
                .as_ref()
                .map_or(1, |counts| counts.value(element));
            if self.copy < copies {
                self.copy += 1;
                self.ordinal += 1;
                if self
                    .element_nulls
                    .as_ref()
                    .is_none_or(|nulls| nulls.is_valid(element))
                {
                    self.has_put = true;
                    chunk.push(self.row, Some(element as u32), Some(self.ordinal));
                }
            }
            if self.copy >= copies {
                self.element += 1;
                self.copy = 0;
            }
        }
        chunk
    }

    fn gather(
        &self,
        chunk: &Chunk,
        with_ordinality: bool,
        schema: &SchemaRef,
    ) -> Result<ChangeBatch, OperatorError> {
        let rows = UInt32Array::from(chunk.rows.clone());
        let elements = UInt32Array::from(chunk.elements.clone());
        let mut columns = Vec::with_capacity(schema.fields().len());
        for column in self.batch.rows.columns() {
            columns.push(take(column, &rows, None)?);
        }
        for column in &self.elements {
            columns.push(take(column, &elements, None)?);
        }
        if with_ordinality {
            columns.push(Arc::new(Int32Array::from(chunk.ordinals.clone())));
        }
        let kind = |kinds: &Kinds| {
            let kinds = kinds.bytes();
            Kinds::from_bytes(chunk.rows.iter().map(|row| kinds[*row as usize]).collect())
        };
        let batch = RecordBatch::try_new(Arc::clone(schema), columns)?;
        Ok(ChangeBatch::changes(
            batch,
            self.batch.kinds.as_ref().map(kind),
        ))
    }
}

impl Chunk {
    fn push(&mut self, row: usize, element: Option<u32>, ordinal: Option<i32>) {
        self.rows.push(row as u32);
        self.elements.push(element);
        self.ordinals.push(ordinal);
    }
}

impl Operator for UnnestOperator {
    fn batch(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.pending = Some(self.begin(batch));
        self.run(context)
    }

    fn resume(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.run(context)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Int64Array,
        builder::{Int32Builder, ListBuilder, MapBuilder, StringBuilder, StructBuilder},
    };
    use proto::types::RowKind;

    use super::*;
    use crate::testing::{Event, batches, changelog, drive, fields};

    fn check(data_type: &str, column: ArrayRef, left: bool, ordinality: bool, expected: &str) {
        let columns = fields(&[("id", "BIGINT"), ("c", data_type)]);
        let spec = plan::Unnest {
            column: 1,
            left,
            with_ordinality: ordinality,
        };
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..column.len() as i64));
        let schema = arrow_schema(&columns);
        let column = arrow::compute::cast(&column, schema.field(1).data_type()).expect("alike");
        let batch = RecordBatch::try_new(schema, vec![ids, column]).expect("columns");
        let kinds = vec![RowKind::UpdateAfter; batch.num_rows()];
        let batch = ChangeBatch::changes(batch, Some(Kinds::from_iter_kinds(kinds)));
        let make = |scope: &engine::operator::TaskScope| {
            UnnestOperator::build(&spec, &columns, scope.batch_rows)
        };
        let elements = drive(&make, &[Event::Batch(0, batch)]);
        assert!(batches(&elements).iter().all(|batch| batch.num_rows() <= 7));
        let text = changelog(&elements);
        let without_collection: Vec<String> = text
            .lines()
            .map(
                |line| match (line.find(['[', '{']), line.rfind([']', '}'])) {
                    (Some(from), Some(to)) => format!("{}{}", &line[..from], &line[to + 3..]),
                    _ => line.to_owned(),
                },
            )
            .collect();
        assert_eq!(without_collection.join("\n"), expected);
    }

    #[test]
    fn arrays_and_ordinals() {
        let mut list = ListBuilder::new(Int32Builder::new());
        list.append_value([Some(5), None]);
        list.append_null();
        list.append_value([]);
        list.append_value((0..9).map(Some));
        let list: ArrayRef = Arc::new(list.finish().slice(0, 3));
        let expected = "+U 0, 5, 1\n+U 0, NULL, 2";
        check("ARRAY<INT>", Arc::clone(&list), false, true, expected);
        let expected = "+U 0, 5\n+U 0, NULL\n+U 1, NULL, NULL\n+U 2, NULL";
        check("ARRAY<INT>", list, true, false, expected);
    }

    #[test]
    fn long_arrays_come_in_chunks() {
        let mut list = ListBuilder::new(Int32Builder::new());
        list.append_value((0..20).map(Some));
        let expected: Vec<String> = (0..20).map(|i| format!("+U 0, {i}")).collect();
        check(
            "ARRAY<INT>",
            Arc::new(list.finish()),
            false,
            false,
            &expected.join("\n"),
        );
    }

    #[test]
    fn rows_become_columns_and_multisets_repeat() {
        let fields = schema_fields();
        let mut list = ListBuilder::new(StructBuilder::from_fields(fields, 2));
        for (a, is_valid) in [(1, true), (2, false)] {
            let row = list.values();
            row.field_builder::<Int32Builder>(0)
                .expect("INT")
                .append_value(a);
            row.field_builder::<StringBuilder>(1)
                .expect("STRING")
                .append_value("x");
            row.append(is_valid);
        }
        list.append(true);
        // The NULL row makes none.
        let expected = "+U 0, 1, x";
        let rows: ArrayRef = Arc::new(list.finish());
        let columns =
            super::super::testing::fields(&[("id", "INT"), ("c", "ARRAY<ROW<a INT, b STRING>>")]);
        let schema = arrow_schema(&columns);
        let ids: ArrayRef = Arc::new(Int32Array::from(vec![0]));
        let batch = RecordBatch::try_new(schema, vec![ids, rows]).expect("columns");
        let spec = plan::Unnest {
            column: 1,
            left: false,
            with_ordinality: false,
        };
        let make = |scope: &engine::operator::TaskScope| {
            UnnestOperator::build(&spec, &columns, scope.batch_rows)
        };
        let out = batches(&drive(
            &make,
            &[Event::Batch(0, ChangeBatch::inserts(batch))],
        ));
        let out = RecordBatch::from(StructArray::from(
            out[0].rows.project(&[0, 2, 3]).expect("3"),
        ));
        let text = changelog(&[engine::Element::Batch(ChangeBatch::inserts(out))]);
        assert_eq!(text, expected.replace("+U", "+I") + "\n");

        let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        for (key, count) in [("a", 2), ("b", 1)] {
            map.keys().append_value(key);
            map.values().append_value(count);
        }
        map.append(true).expect("entries");
        let map: ArrayRef = Arc::new(map.finish());
        check(
            "MULTISET<STRING>",
            Arc::clone(&map),
            false,
            true,
            "+U 0, a, 1\n+U 0, a, 2\n+U 0, b, 3",
        );
        check(
            "MAP<STRING, INT>",
            map,
            false,
            false,
            "+U 0, a, 2\n+U 0, b, 1",
        );
    }

    fn schema_fields() -> arrow::datatypes::Fields {
        let columns = fields(&[("a", "INT"), ("b", "STRING")]);
        arrow_schema(&columns).fields().clone()
    }
}
