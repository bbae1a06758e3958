//! The order of rows, as bytes that compare like it.

use arrow::{
    array::ArrayRef,
    compute::SortOptions,
    row::{RowConverter, Rows, SortField},
};
use engine::{codec::RowCodec, operator::OperatorError};
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
        let columns = self.columns.iter().copied().map(column);
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
