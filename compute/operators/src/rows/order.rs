//! The order of rows, as bytes that compare like it.

use arrow::{
    array::ArrayRef,
    compute::SortOptions,
    row::{RowConverter, Rows, SortField},
};
use engine::{
    codec::{RowCodec, canonical_floats},
    operator::OperatorError,
};
use proto::{plan::SortKey, types::Field};

use super::{arrow_types, column};

/// Columns that rows are ordered by, and what makes bytes of them.
#[derive(Debug)]
pub(crate) struct RowOrder {
    columns: Vec<usize>,
    converter: RowConverter,
}

impl RowOrder {
    /// The order of rows of `input` by these keys.
    ///
    /// # Errors
    /// When the input has not the columns, or there is no order of one.
    pub(crate) fn new(order_by: &[SortKey], input: &[Field]) -> Result<Self, OperatorError> {
        let types = arrow_types(input);
        let mut columns = Vec::with_capacity(order_by.len());
        let mut fields = Vec::with_capacity(order_by.len());
        for key in order_by {
            let at = column(key.column, input)?;
            let options = SortOptions {
                descending: key.descending,
                nulls_first: !key.nulls_last,
            };
            columns.push(at);
            fields.push(SortField::new_with_options(types[at].clone(), options));
        }
        let converter = RowConverter::new(fields)?;
        Ok(RowOrder { columns, converter })
    }

    /// The places of rows, given by all their columns.
    pub(crate) fn keys(&self, columns: &[ArrayRef]) -> Result<OrderKeys, OperatorError> {
        self.keys_by(|at| Ok(columns[at].clone()))
    }

    /// The same, of rows as bytes.
    pub(crate) fn keys_of(
        &self,
        codec: &RowCodec,
        rows: &[&[u8]],
    ) -> Result<OrderKeys, OperatorError> {
        self.keys_by(|at| Ok(codec.decode_column(at, rows)?))
    }

    fn keys_by(
        &self,
        column: impl FnMut(usize) -> Result<ArrayRef, OperatorError>,
    ) -> Result<OrderKeys, OperatorError> {
        // Rows that were kept have lost which NaN they had, and are to come where they came before.
        let columns = self.columns.iter().copied().map(column);
        let columns = columns.map(|column| Ok::<_, OperatorError>(canonical_floats(&column?)));
        let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
        let is_any = !columns.is_empty();
        let keys = is_any.then(|| self.converter.convert_columns(&columns));
        Ok(OrderKeys(keys.transpose()?))
    }
}

/// The places of some rows in their order; all the same where there is none.
#[derive(Debug)]
pub(crate) struct OrderKeys(Option<Rows>);

impl OrderKeys {
    /// The bytes of a row's place.
    #[inline]
    pub(crate) fn row(&self, row: usize) -> &[u8] {
        match &self.0 {
            Some(rows) => rows.row(row).data(),
            None => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Float64Array;

    use super::*;
    use crate::{rows::row_codec, testing::fields};

    #[test]
    fn rows_come_where_they_came_before_they_were_kept() {
        let columns = fields(&[("v", "DOUBLE")]);
        let key = SortKey {
            column: 0,
            descending: true,
            nulls_last: true,
        };
        let order = RowOrder::new(&[key], &columns).expect("an order");
        // What 0e0 / 0e0 is on some machines.
        let negative_nan = f64::from_bits(0xfff8 << 48);
        let values = [negative_nan, f64::NAN, f64::INFINITY, 0.0, -0.0];
        let values: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        let codec = row_codec(&columns).expect("a codec");
        let rows = codec.encode(&[Arc::clone(&values)], 5).expect("encoded");
        let rows: Vec<&[u8]> = (0..5).map(|row| rows.row(row)).collect();
        let kept = order.keys_of(&codec, &rows).expect("keys");
        let new = order.keys(&[values]).expect("keys");
        for row in 0..5 {
            assert_eq!(kept.row(row), new.row(row), "row {row}");
        }
        assert_eq!(new.row(0), new.row(1));
        assert!(new.row(1) < new.row(2), "NaN is the greatest");
    }
}
