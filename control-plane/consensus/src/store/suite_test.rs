//! openraft's own tests of a store, over a redb file.

use std::sync::Arc;

use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::{Disk, Identity, LogStore, StateMachine};
use crate::{
    DiskId,
    testing::Ledger,
    types::{StorageError, Types},
};

struct Builder;

impl StoreBuilder<Types, LogStore, StateMachine<Ledger>, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine<Ledger>), StorageError> {
        let dir = TempDir::new().unwrap();
        let fresh = Identity {
            cluster: "test".to_owned(),
            node: 1,
            disk: DiskId(1),
            incarnation: None,
        };
        let (disk, _) = Disk::open(dir.path(), &fresh).unwrap();
        let disk = Arc::new(disk);
        let machine = StateMachine::open(Ledger::default(), Arc::clone(&disk), 1)?;
        Ok((dir, LogStore::new(disk), machine))
    }
}

#[test]
fn passes_openrafts_suite() {
    Suite::test_all(Builder).unwrap();
}
