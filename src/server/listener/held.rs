//! The memory that responses hold until they are sent.

use std::collections::HashMap;

use bytes::Bytes;

/// The memory that one response holds: a response extension, by which a handler reports it to the
/// listener.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Chunks that other responses may hold as well.
    pub shared: Vec<Bytes>,
    /// Bytes of buffers that belong to this response alone.
    pub own: usize,
}

impl Held {
    pub(super) fn bytes(&self) -> usize {
        self.shared.iter().map(Bytes::len).sum::<usize>() + self.own
    }
}

/// The memory that all responses hold together: a chunk counts once, however many share it.
#[derive(Debug, Default)]
pub(super) struct HeldByAll {
    /// Length and number of holders of each chunk, by its address, which does not change while
    /// any response references it.
    chunks: HashMap<usize, (usize, usize)>,
    bytes: usize,
}

impl HeldByAll {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn add(&mut self, held: &Held) {
        self.bytes += held.own;
        for chunk in &held.shared {
            let (_, holders) = self.chunks.entry(address(chunk)).or_insert_with(|| {
                self.bytes += chunk.len();
                (chunk.len(), 0)
            });
            *holders += 1;
        }
    }

    /// Takes out what was added before.
    pub(super) fn remove(&mut self, held: &Held) {
        self.bytes -= held.own;
        for chunk in &held.shared {
            let address = address(chunk);
            let Some((length, holders)) = self.chunks.get_mut(&address) else {
                continue;
            };
            *holders -= 1;
            if *holders == 0 {
                self.bytes -= *length;
                self.chunks.remove(&address);
            }
        }
    }
}

fn address(chunk: &Bytes) -> usize {
    chunk.as_ptr().addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_chunk_counts_once_until_its_last_holder_is_gone() {
        let [shared, first, second] = [100, 10, 1].map(|length| Bytes::from(vec![0; length]));
        let held = |chunks: [&Bytes; 2]| Held {
            shared: chunks.map(Clone::clone).into(),
            own: 1_000,
        };
        let (first, second) = (held([&shared, &first]), held([&shared, &second]));
        let mut all = HeldByAll::default();
        all.add(&first);
        assert_eq!(all.bytes(), 1_110);
        all.add(&second);
        assert_eq!(all.bytes(), 2_111);
        all.remove(&first);
        assert_eq!(all.bytes(), 1_101);
        all.remove(&second);
        assert_eq!(all.bytes(), 0);
        assert!(all.chunks.is_empty());
    }
}
