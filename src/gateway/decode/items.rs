//! The elements of an array, decoded one by one: a malformed element does not affect the others.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The elements of an array, up to [`ITEMS_MEMORY`]. In memory a small element takes many times the
/// space that it has in JSON.
pub(in crate::gateway) struct Items<T> {
    list: Vec<T>,
    /// Number of elements that could not be decoded.
    skipped: usize,
    complete: bool,
}

/// Largest size of the elements of one array, in bytes, without what they point to.
const ITEMS_MEMORY: usize = 32 << 20;

impl<T> Items<T> {
    /// Most elements taken.
    pub(in crate::gateway) const LIMIT: usize = ITEMS_MEMORY / size_of::<Option<T>>();

    /// All elements; `None` when one could not be decoded or there are more than [`Self::LIMIT`].
    pub(in crate::gateway) fn all(self) -> Option<Vec<T>> {
        (self.complete && self.skipped == 0).then_some(self.list)
    }

    /// The elements that could be decoded, and how many could not; `None` when there are more than
    /// [`Self::LIMIT`].
    pub(in crate::gateway) fn decodable(self) -> Option<(Vec<T>, usize)> {
        self.complete.then_some((self.list, self.skipped))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor(PhantomData))
    }
}

struct ItemsVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ItemsVisitor<T> {
    type Value = Items<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut items = Items {
            list: Vec::new(),
            skipped: 0,
            complete: true,
        };
        while let Some(element) = array.next_element::<&RawValue>()? {
            if items.list.len() >= Items::<T>::LIMIT {
                items.complete = false;
                continue;
            }
            match serde_json::from_str(element.get()) {
                Ok(item) => items.list.push(item),
                Err(_) => items.skipped += 1,
            }
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_read_up_to_their_limit_in_memory() {
        // Five bytes of JSON, 264 in memory.
        type Large = Option<[u64; 32]>;
        let limit = Items::<Large>::LIMIT;
        assert!(limit * size_of::<Large>() <= ITEMS_MEMORY);
        for count in [0, 1, 1_000, limit, limit + 1, limit + 2, limit + 1_000] {
            let body = format!("[{}]", vec!["null"; count].join(","));
            let items: Items<Large> = serde_json::from_str(&body).unwrap();
            assert_eq!(items.list.len(), count.min(limit));
            assert_eq!(items.all().is_some(), count <= limit, "{count}");
        }
        // Elements beyond the limit must still be JSON.
        let body = format!("[{},]", vec!["null"; limit + 1].join(","));
        assert!(serde_json::from_str::<Items<Large>>(&body).is_err());
    }

    #[test]
    fn a_malformed_element_does_not_affect_others() {
        for (body, list, skipped) in [
            ("[]", vec![], 0),
            ("[1,2]", vec![1, 2], 0),
            ("[1,null,2]", vec![1, 2], 1),
            ("[\"1\",1,[2],{\"a\":[3]},4.5,true]", vec![1], 5),
        ] {
            let items: Items<u8> = serde_json::from_str(body).unwrap();
            assert_eq!(items.decodable(), Some((list, skipped)), "{body}");
            let items: Items<u8> = serde_json::from_str(body).unwrap();
            assert_eq!(items.all().is_some(), skipped == 0, "{body}");
        }
        assert!(serde_json::from_str::<Items<u8>>("[1,}]").is_err());
    }
}
