//! Settings of the simulator that a response depends on.

use crate::simulator::access::{Access, Role};
use crate::simulator::estate::RestorePlan;
use crate::simulator::record::BackupPlan;
use crate::simulator::switches::{Pages, Switches};

/// Inputs of a response besides the request and the estate.
#[derive(Debug)]
pub(in crate::simulator) struct ResponseSettings<'a> {
    pub(in crate::simulator) switches: &'a Switches,
    pub(in crate::simulator) cluster_version: &'a str,
    pub(in crate::simulator) on_demand: &'a BackupPlan,
    pub(in crate::simulator) restore: &'a RestorePlan,
    /// False while the cluster has no backup service.
    pub(in crate::simulator) backup_service: bool,
    pub(in crate::simulator) paging: Paging,
    pub(in crate::simulator) access: &'a Access,
    /// Role of the client.
    pub(in crate::simulator) role: Role,
}

impl ResponseSettings<'_> {
    /// Whether `MaxResults` pages as in 6.4, including its defects.
    pub(super) fn pages_as_in_64(&self) -> bool {
        self.switches.pages == Pages::AsIn64
            && self.switches.page_size.is_none()
            && self.paging == Paging::Normal
    }
}

/// Fault of paging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulator) enum Paging {
    Normal,
    /// Every page is the first page with a new token.
    Endless,
    /// Every page is the first page with the same token.
    Repeated,
}
