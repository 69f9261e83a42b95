//! Accounting of the memory that responses hold until they are sent.

use std::collections::HashMap;

use bytes::Bytes;

/// The memory that one response holds. A handler reports it to the listener as a response
/// extension.
#[derive(Clone, Debug, Default)]
pub struct ResponseMemory {
    /// Chunks that other responses can hold as well.
    pub shared: Vec<Bytes>,
    /// Bytes of buffers that belong to this response alone.
    pub own: usize,
}

impl ResponseMemory {
    pub(super) fn bytes(&self) -> usize {
        self.shared.iter().map(Bytes::len).sum::<usize>() + self.own
    }
}

/// The memory that all responses hold. A chunk counts once, however many responses share it.
#[derive(Debug, Default)]
pub(super) struct TotalResponseMemory {
    /// Length and reference count of each chunk by its address, which is stable while a response
    /// references the chunk.
    chunks: HashMap<usize, (usize, usize)>,
    bytes: usize,
}

impl TotalResponseMemory {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn add(&mut self, response: &ResponseMemory) {
        self.bytes += response.own;
        for chunk in &response.shared {
            let (_, references) = self.chunks.entry(address(chunk)).or_insert_with(|| {
                self.bytes += chunk.len();
                (chunk.len(), 0)
            });
            *references += 1;
        }
    }

    /// `response` must have been added before.
    pub(super) fn remove(&mut self, response: &ResponseMemory) {
        self.bytes -= response.own;
        for chunk in &response.shared {
            let address = address(chunk);
            let Some((length, references)) = self.chunks.get_mut(&address) else {
                continue;
            };
            *references -= 1;
            if *references == 0 {
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
    fn shared_chunk_counts_once_until_its_last_reference_is_removed() {
        let [shared, first, second] = [100, 10, 1].map(|length| Bytes::from(vec![0; length]));
        let response = |chunks: [&Bytes; 2]| ResponseMemory {
            shared: chunks.map(Clone::clone).into(),
            own: 1_000,
        };
        let (first, second) = (response([&shared, &first]), response([&shared, &second]));
        let mut total = TotalResponseMemory::default();
        total.add(&first);
        assert_eq!(total.bytes(), 1_110);
        total.add(&second);
        assert_eq!(total.bytes(), 2_111);
        total.remove(&first);
        assert_eq!(total.bytes(), 1_101);
        total.remove(&second);
        assert_eq!(total.bytes(), 0);
        assert!(total.chunks.is_empty());
    }
}
