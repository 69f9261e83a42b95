//! One page of a list.

use serde::Deserialize;
use tracing::debug;

use super::error::ReplyError;
use super::query::Reply;
use super::route::Subject;
use crate::gateway::decode::{DecodeError, Items};

/// One page of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// The items that could be decoded.
    pub items: Vec<T>,
    /// Number of items that could not be decoded.
    pub skipped: usize,
    /// The first specific reason why an item could not be decoded.
    item_error: Option<DecodeError>,
    /// The continuation token of the next page; `None` at the end.
    pub next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PageReply<T> {
    /// At the end `""` from native routes and null from the backup service.
    continuation_token: Option<String>,
    items: Items<T>,
}

impl<T> Page<T> {
    /// A list without items.
    pub(super) fn empty() -> Self {
        Self {
            items: Vec::new(),
            skipped: 0,
            item_error: None,
            next: None,
        }
    }

    /// Translates the items of a page. Items for which `item` returns `None` are dropped, items for
    /// which it fails are counted as skipped.
    pub(super) fn read<R: serde::de::DeserializeOwned>(
        reply: Reply<'_>,
        item: impl Fn(R) -> Result<Option<T>, DecodeError>,
    ) -> Result<Self, ReplyError> {
        let page = Self::read_optional(reply, item)?;
        page.ok_or(ReplyError::Decode(DecodeError::Empty))
    }

    /// Like [`Self::read`]; `None` for an empty body and for `null`.
    pub(super) fn read_optional<R: serde::de::DeserializeOwned>(
        reply: Reply<'_>,
        item: impl Fn(R) -> Result<Option<T>, DecodeError>,
    ) -> Result<Option<Self>, ReplyError> {
        let Some(reply) = reply.optional::<PageReply<R>>()? else {
            return Ok(None);
        };
        let limit = Items::<R>::LIMIT;
        let decodable = reply.items.decodable();
        let (replies, skipped) = decodable.ok_or(ReplyError::TooManyItems { limit })?;
        let mut page = Self {
            skipped,
            next: reply.continuation_token.filter(|token| !token.is_empty()),
            ..Self::empty()
        };
        for reply in replies {
            match item(reply) {
                Ok(translated) => page.items.extend(translated),
                Err(error) => {
                    page.skipped += 1;
                    page.item_error.get_or_insert(error);
                }
            }
        }
        Ok(Some(page))
    }

    /// Logs that items could not be decoded, at level `debug`.
    pub(in crate::gateway) fn log_skipped(
        &self,
        cluster: &str,
        route: &str,
        subject: &Subject<'_>,
    ) {
        if self.skipped > 0 {
            let (skipped, error) = (self.skipped, self.item_error.unwrap_or(DecodeError::Item));
            debug!(
                cluster,
                route,
                skipped,
                "Cluster {cluster}: {route} for {subject} skipped {skipped} items: {error}."
            );
        }
    }
}
