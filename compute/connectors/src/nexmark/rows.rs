//! Batches: which of the table's columns and nested fields are read, and their arrays.

use std::{iter, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BooleanBufferBuilder, Int32Array, RecordBatch, RecordBatchOptions, StructArray,
        new_null_array,
    },
    buffer::NullBuffer,
    datatypes::{DataType as ArrowType, Fields, SchemaRef},
    error::ArrowError,
};
use engine::schema::{arrow_schema, arrow_type};
use proto::types::{Field, LogicalType};

use super::{
    auction::{AuctionColumn, Auctions},
    bid::{BidColumn, Bids},
    buffers::Rows,
    config::{Config, Kind},
    person::{PersonColumn, Persons},
    run::Run,
};

/// Makes batches of the columns that are read.
#[derive(Debug)]
pub(super) struct BatchMaker {
    schema: SchemaRef,
    columns: Vec<Column>,
    persons: Persons,
    auctions: Auctions,
    bids: Bids,
}

/// A column of the table, with those of its fields that are read.
#[derive(Clone, Debug)]
enum Column {
    EventType,
    Person(Fields, Vec<PersonColumn>),
    Auction(Fields, Vec<AuctionColumn>),
    Bid(Fields, Vec<BidColumn>),
}

impl BatchMaker {
    /// For the columns `produced`.
    pub(super) fn new(config: &Config, produced: &[Field]) -> Result<BatchMaker, String> {
        let columns = produced
            .iter()
            .map(column)
            .collect::<Result<Vec<_>, String>>()?;
        let bid_columns = columns.iter().find_map(|column| match column {
            Column::Bid(_, columns) => Some(columns.clone()),
            _ => None,
        });
        Ok(BatchMaker {
            schema: arrow_schema(produced),
            columns,
            persons: Persons::new(config),
            auctions: Auctions::new(config),
            bids: Bids::new(config, &bid_columns.unwrap_or_default()),
        })
    }

    /// The events of `runs`, `length` in all.
    pub(super) fn batch(
        &self,
        config: &Config,
        runs: &[Run],
        length: usize,
    ) -> Result<RecordBatch, ArrowError> {
        let make = |column: &Column| match column {
            Column::EventType => Ok(event_types(runs, length)),
            Column::Person(fields, columns) => rows_of(
                Kind::Person,
                runs,
                length,
                fields,
                columns,
                |column, rows| self.persons.column(config, column, rows),
            ),
            Column::Auction(fields, columns) => rows_of(
                Kind::Auction,
                runs,
                length,
                fields,
                columns,
                |column, rows| self.auctions.column(config, column, rows),
            ),
            Column::Bid(fields, columns) => {
                rows_of(Kind::Bid, runs, length, fields, columns, |column, rows| {
                    self.bids.column(config, column, rows)
                })
            }
        };
        let columns = self.columns.iter().map(make).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(length));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
    }
}

fn event_types(runs: &[Run], length: usize) -> ArrayRef {
    let mut types = Vec::with_capacity(length);
    for run in runs {
        types.extend(iter::repeat_n(run.kind as i32, run.length as usize));
    }
    Arc::new(Int32Array::from(types))
}

/// A ROW column that is NULL but for events of `kind`.
fn rows_of<C: Copy>(
    kind: Kind,
    runs: &[Run],
    length: usize,
    fields: &Fields,
    columns: &[C],
    make: impl Fn(C, Rows<'_>) -> Result<ArrayRef, ArrowError>,
) -> Result<ArrayRef, ArrowError> {
    if runs.iter().all(|run| run.kind != kind) {
        return Ok(new_null_array(&ArrowType::Struct(fields.clone()), length));
    }
    let nulls = validity(kind, runs, length);
    let rows = Rows {
        runs,
        kind,
        length,
        nulls: nulls.as_ref(),
    };
    let arrays = columns
        .iter()
        .map(|column| make(*column, rows))
        .collect::<Result<Vec<_>, _>>()?;
    let array = StructArray::try_new_with_length(fields.clone(), arrays, nulls, length)?;
    Ok(Arc::new(array))
}

fn validity(kind: Kind, runs: &[Run], length: usize) -> Option<NullBuffer> {
    if runs.iter().all(|run| run.kind == kind) {
        return None;
    }
    let mut valid = BooleanBufferBuilder::new(length);
    for run in runs {
        valid.append_n(run.length as usize, run.kind == kind);
    }
    Some(NullBuffer::new(valid.finish()))
}

fn column(field: &Field) -> Result<Column, String> {
    let name = &*field.name;
    if let ("event_type", LogicalType::Int) = (name, &field.data_type.logical) {
        return Ok(Column::EventType);
    }
    let unknown = || format!("nexmark has no column `{name}` of type {}", field.data_type);
    let LogicalType::Row(nested) = &field.data_type.logical else {
        return Err(unknown());
    };
    let ArrowType::Struct(fields) = arrow_type(&field.data_type.logical) else {
        return Err(unknown());
    };
    match name {
        "person" => Ok(Column::Person(
            fields,
            nested_columns(name, nested, person)?,
        )),
        "auction" => Ok(Column::Auction(
            fields,
            nested_columns(name, nested, auction)?,
        )),
        "bid" => Ok(Column::Bid(fields, nested_columns(name, nested, bid)?)),
        _ => Err(unknown()),
    }
}

const BIGINT: LogicalType = LogicalType::BigInt;
const STRING: LogicalType = LogicalType::STRING;
const TIME: LogicalType = LogicalType::Timestamp(3);

fn nested_columns<C>(
    row: &str,
    nested: &[Field],
    known: impl Fn(&str) -> Option<(C, LogicalType)>,
) -> Result<Vec<C>, String> {
    let column = |field: &Field| match known(&field.name) {
        Some((column, logical)) if logical == field.data_type.logical => Ok(column),
        _ => Err(format!(
            "nexmark's `{row}` has no field `{}` of type {}",
            field.name, field.data_type
        )),
    };
    nested.iter().map(column).collect()
}

fn person(name: &str) -> Option<(PersonColumn, LogicalType)> {
    Some(match name {
        "id" => (PersonColumn::Id, BIGINT),
        "name" => (PersonColumn::Name, STRING),
        "emailAddress" => (PersonColumn::EmailAddress, STRING),
        "creditCard" => (PersonColumn::CreditCard, STRING),
        "city" => (PersonColumn::City, STRING),
        "state" => (PersonColumn::State, STRING),
        "dateTime" => (PersonColumn::DateTime, TIME),
        "extra" => (PersonColumn::Extra, STRING),
        _ => return None,
    })
}

fn auction(name: &str) -> Option<(AuctionColumn, LogicalType)> {
    Some(match name {
        "id" => (AuctionColumn::Id, BIGINT),
        "itemName" => (AuctionColumn::ItemName, STRING),
        "description" => (AuctionColumn::Description, STRING),
        "initialBid" => (AuctionColumn::InitialBid, BIGINT),
        "reserve" => (AuctionColumn::Reserve, BIGINT),
        "dateTime" => (AuctionColumn::DateTime, TIME),
        "expires" => (AuctionColumn::Expires, TIME),
        "seller" => (AuctionColumn::Seller, BIGINT),
        "category" => (AuctionColumn::Category, BIGINT),
        "extra" => (AuctionColumn::Extra, STRING),
        _ => return None,
    })
}

fn bid(name: &str) -> Option<(BidColumn, LogicalType)> {
    Some(match name {
        "auction" => (BidColumn::Auction, BIGINT),
        "bidder" => (BidColumn::Bidder, BIGINT),
        "price" => (BidColumn::Price, BIGINT),
        "channel" => (BidColumn::Channel, STRING),
        "url" => (BidColumn::Url, STRING),
        "dateTime" => (BidColumn::DateTime, TIME),
        "extra" => (BidColumn::Extra, STRING),
        _ => return None,
    })
}
