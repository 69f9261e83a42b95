//! Compressed pieces that join into one gzip member.
//!
//! A piece is a run of raw deflate blocks that ends on a byte boundary and refers to nothing
//! before itself, together with the length and checksum of its text. Pieces can therefore be made
//! once, kept, and put together in any order: the way pigz joins what its threads compress. One
//! member, because decoders exist that read only the first of several and lose the rest silently.

use bytes::Bytes;
use crc32fast::Hasher;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Compressed at the fastest level: higher ones cost several times the work for a few per cent.
const LEVEL: Compression = Compression::fast();

/// Text is compressed in runs of this many bytes, so that no family stands in memory as text.
const RUN: usize = 64 * 1024;

/// Header of a gzip member (RFC 1952, 2.3): deflate, no flags, no time, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// An empty final block with fixed codes (RFC 1951, 3.2.6): ends the stream.
const FINAL_BLOCK: [u8; 2] = [0x03, 0x00];

/// A compressed part of a page.
#[derive(Clone, Debug, Default)]
pub(super) struct Piece {
    deflate: Bytes,
    checksum: Hasher,
    length: u64,
}

impl Piece {
    /// Compresses `text`.
    pub(super) fn of(text: &[u8]) -> Self {
        let mut builder = PieceBuilder::default();
        builder.push(text);
        builder.finish()
    }

    /// Whether it holds no text.
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// Takes text in any portions and compresses it run by run.
#[derive(Debug)]
pub(super) struct PieceBuilder {
    compress: Compress,
    text: Vec<u8>,
    deflate: Vec<u8>,
    checksum: Hasher,
    length: u64,
}

impl Default for PieceBuilder {
    fn default() -> Self {
        Self {
            compress: Compress::new(LEVEL, false),
            text: Vec::new(),
            deflate: Vec::new(),
            checksum: Hasher::new(),
            length: 0,
        }
    }
}

impl PieceBuilder {
    pub(super) fn push(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
        if self.text.len() >= RUN {
            self.compress_text(FlushCompress::None);
        }
    }

    pub(super) fn finish(mut self) -> Piece {
        if self.length == 0 && self.text.is_empty() {
            return Piece::default();
        }
        self.compress_text(FlushCompress::Full);
        self.deflate.shrink_to_fit();
        Piece {
            deflate: self.deflate.into(),
            checksum: self.checksum,
            length: self.length,
        }
    }

    fn compress_text(&mut self, flush: FlushCompress) {
        self.checksum.update(&self.text);
        let start = self.compress.total_in();
        loop {
            let done = usize::try_from(self.compress.total_in() - start)
                .expect("no more is consumed than a buffer holds");
            let rest = self.text.get(done..).unwrap_or_default();
            // A flush is complete only when it leaves room in the output (zlib's contract).
            self.deflate.reserve(RUN / 2);
            self.compress
                .compress_vec(rest, &mut self.deflate, flush)
                .expect("compressing into a growing buffer cannot fail");
            let consumed = self.compress.total_in() - start == self.text.len() as u64;
            if consumed && self.deflate.len() < self.deflate.capacity() {
                break;
            }
        }
        self.length += self.text.len() as u64;
        self.text.clear();
    }
}

/// Joins pieces into one gzip member, in chunks that share the memory of the pieces.
pub(super) fn member(pieces: &[Piece]) -> Vec<Bytes> {
    let mut checksum = Hasher::new();
    let mut length = 0_u64;
    let mut chunks = vec![Bytes::from_static(&HEADER)];
    for piece in pieces {
        checksum.combine(&piece.checksum);
        length += piece.length;
        chunks.push(piece.deflate.clone());
    }
    chunks.push(Bytes::from_static(&FINAL_BLOCK));
    let [a, b, c, d, ..] = length.to_le_bytes();
    let trailer = [checksum.finalize().to_le_bytes(), [a, b, c, d]].concat();
    chunks.push(trailer.into());
    chunks
}

/// The text of pieces.
pub(super) fn inflate(pieces: &[Piece]) -> Vec<u8> {
    let length = pieces.iter().map(|piece| piece.length).sum::<u64>();
    let length = usize::try_from(length).expect("the text was made in this memory");
    // One byte more than needed: a full output would look like an unfinished one.
    let mut text = Vec::with_capacity(length + 1);
    let mut decompress = Decompress::new(false);
    for piece in pieces {
        let start = decompress.total_in();
        loop {
            let done = usize::try_from(decompress.total_in() - start)
                .expect("no more is consumed than a piece holds");
            let rest = piece.deflate.get(done..).unwrap_or_default();
            let status = decompress
                .decompress_vec(rest, &mut text, FlushDecompress::Sync)
                .expect("the pieces were compressed here");
            if rest.is_empty() || status == Status::BufError {
                break;
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use flate2::read::{GzDecoder, MultiGzDecoder};

    fn texts() -> Vec<Vec<u8>> {
        let long = (0..40_000).flat_map(|n: u32| format!("sample {n}\n").into_bytes());
        let noise =
            (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]);
        vec![
            b"short\n".to_vec(),
            long.collect(),
            noise.collect(),
            Vec::new(),
            b"# EOF\n".to_vec(),
        ]
    }

    #[test]
    fn pieces_join_into_a_single_member_that_any_decoder_reads_to_its_end() {
        let texts = texts();
        let pieces: Vec<Piece> = texts.iter().map(|text| Piece::of(text)).collect();
        let compressed = member(&pieces).concat();
        let expected = texts.concat();
        let mut single = Vec::new();
        let mut decoder = GzDecoder::new(&*compressed);
        decoder.read_to_end(&mut single).unwrap();
        assert!(single == expected);
        assert!(decoder.into_inner().is_empty(), "a second member follows");
        let mut multi = Vec::new();
        MultiGzDecoder::new(&*compressed)
            .read_to_end(&mut multi)
            .unwrap();
        assert!(multi == expected);
        assert!(inflate(&pieces) == expected);
    }

    #[test]
    fn pieces_may_be_joined_in_any_order_and_more_than_once() {
        let pieces: Vec<Piece> = texts().iter().map(|text| Piece::of(text)).collect();
        let shuffled: Vec<Piece> = [1, 0, 1, 4, 2, 0]
            .map(|index: usize| pieces[index].clone())
            .into();
        let mut text = Vec::new();
        GzDecoder::new(&*member(&shuffled).concat())
            .read_to_end(&mut text)
            .unwrap();
        assert!(text == inflate(&shuffled));
    }

    #[test]
    fn small_portions_give_the_same_text_as_one() {
        let text = &texts()[1];
        let mut builder = PieceBuilder::default();
        for portion in text.chunks(13) {
            builder.push(portion);
        }
        assert!(inflate(&[builder.finish()]) == *text);
    }
}
