//! What many connections ask of the database at the same moment, as after a restart of the manager, is
//! answered together.

use super::{
    greet::{Asked, Greeted},
    needs::Needs,
};
use crate::{
    db::hosts::{Fingerprint, HostState},
    together::Together,
};
use protocol::HostId;
use std::sync::Arc;

/// Where connections meet others that ask the same.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    /// Whose key it is.
    pub keys: Together<Fingerprint, Option<(HostId, HostState)>>,
    /// What a hello is answered with.
    pub hellos: Together<Arc<Asked>, Greeted>,
    /// What a host needs now.
    pub needs: Together<HostId, Option<Needs>>,
    /// That a ticket is safe with its agent.
    pub tickets: Together<(HostId, Fingerprint), ()>,
}
