//! Pages of lists and their continuation tokens.
//!
//! A token continues after the last item of the page before, even if that item no longer exists.
//! Implements endless lists for tests.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::settings::{Paging, ResponseSettings};
use crate::simulator::response::{GatewayResponse, RouteKind};
use crate::simulator::switches::TokenEnd;

/// Separator in continuation tokens: between the list and the last item.
const MARK: char = '|';

pub(super) type QueryParameters = HashMap<String, String>;

/// Start and size of a page.
pub(super) struct ListPage<'a> {
    kind: RouteKind,
    /// Identifies the list in its tokens.
    context: &'a str,
    token: Option<&'a str>,
    pub(super) after: Option<String>,
    limit: usize,
    settings: &'a ResponseSettings<'a>,
}

impl<'a> ListPage<'a> {
    /// `None` if the token belongs to another list.
    pub(super) fn requested(
        kind: RouteKind,
        context: &'a str,
        query: &'a QueryParameters,
        settings: &'a ResponseSettings<'a>,
    ) -> Option<Self> {
        let token = query.get("ContinuationToken").map(String::as_str);
        let token = token.filter(|it| !it.is_empty());
        let after = match (token, settings.paging) {
            (Some(token), Paging::Normal) => {
                let (of, after) = token.rsplit_once(MARK)?;
                (of == context).then(|| Some(after.to_owned()))?
            }
            _ => None,
        };
        Some(Self {
            kind,
            context,
            token,
            after,
            limit: settings.switches.page_size.unwrap_or(usize::MAX),
            settings,
        })
    }

    /// Applies `MaxResults`, an upper limit, 0 meaning all; `None` if it is not a number.
    pub(super) fn with_limit(self, wish: Option<&String>) -> Option<Self> {
        let wish: usize = wish.map_or(Ok(0), |it| it.parse()).ok()?;
        let wish = if wish == 0 { usize::MAX } else { wish };
        Some(Self {
            limit: self.limit.min(wish),
            ..self
        })
    }

    /// The items after those of earlier pages, sorted by key.
    pub(super) fn rest<T>(&self, items: impl Iterator<Item = (String, T)>) -> BTreeMap<String, T> {
        let after = self.after.as_deref();
        items
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .collect()
    }

    /// Builds the page; `render` returns the key of an item and the item.
    pub(super) fn answer<T>(
        &self,
        items: impl Iterator<Item = T>,
        render: impl Fn(&T) -> (String, Value),
    ) -> GatewayResponse {
        let mut items = items.peekable();
        let mut shown = Vec::new();
        let mut last = None;
        while shown.len() < self.limit.max(1) {
            let Some(item) = items.next() else { break };
            let (key, item) = render(&item);
            shown.push(item);
            last = Some(key);
        }
        let more = last.filter(|_| items.peek().is_some());
        whole(shown, self.next_token(more), self.kind, self.settings)
    }

    fn next_token(&self, more: Option<String>) -> Option<String> {
        let turn = || {
            let turn = self
                .token
                .and_then(|it| it.rsplit_once(MARK)?.1.parse().ok());
            turn.unwrap_or(0_u64) + 1
        };
        let last = match self.settings.paging {
            Paging::Normal => more,
            Paging::Endless => Some(turn().to_string()),
            Paging::Repeated => Some("1".to_owned()),
        };
        last.map(|last| self.token_after(&last))
    }

    /// The token of a page whose last item has this key.
    pub(super) fn token_after(&self, last: &str) -> String {
        format!("{}{MARK}{last}", self.context)
    }
}

/// A page of these items; without a token it is the last one.
pub(super) fn whole(
    items: Vec<Value>,
    token: Option<String>,
    kind: RouteKind,
    settings: &ResponseSettings<'_>,
) -> GatewayResponse {
    let end = match (settings.switches.token_end, kind) {
        (TokenEnd::ByRoute, RouteKind::Native) => TokenEnd::Empty,
        (TokenEnd::ByRoute, RouteKind::Backup) => TokenEnd::Null,
        (end, _) => end,
    };
    let token = match (token, end) {
        (Some(token), _) => Some(json!(token)),
        (None, TokenEnd::Empty | TokenEnd::ByRoute) => Some(json!("")),
        (None, TokenEnd::Null) => Some(Value::Null),
        (None, TokenEnd::Absent) => None,
    };
    let mut body = Map::new();
    body.extend(token.map(|token| ("ContinuationToken".to_owned(), token)));
    body.insert("Items".to_owned(), Value::Array(items));
    GatewayResponse::json(Value::Object(body))
}
