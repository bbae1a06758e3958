//! A process that is its own control plane.

use futures::{FutureExt as _, future::BoxFuture};

use super::{ControlNode, Membership, MembershipError};

/// One node, which stays the only one.
#[derive(Clone, Debug)]
pub struct Alone {
    address: String,
}

impl Alone {
    /// `address`: where clients reach it.
    #[must_use]
    pub fn new(address: String) -> Alone {
        Alone { address }
    }
}

impl Membership for Alone {
    fn nodes(&self) -> Vec<ControlNode> {
        vec![ControlNode {
            id: 1,
            address: self.address.clone(),
            leader: true,
            voter: true,
        }]
    }

    fn add(&self, _id: u64, _address: String) -> BoxFuture<'static, Result<(), MembershipError>> {
        async { Err(MembershipError::Alone) }.boxed()
    }

    fn remove(&self, _id: u64) -> BoxFuture<'static, Result<(), MembershipError>> {
        async { Err(MembershipError::Alone) }.boxed()
    }
}
