//! Compressed segments that join into one gzip member.
//!
//! A segment is a run of raw deflate blocks that ends on a byte boundary and has no references to
//! data before it, with the length and the checksum of its text. Segments can therefore be
//! compressed once, cached, and joined in any order, as pigz joins the output of its threads. They
//! form one member, because some decoders read only the first member of a file.
//!
//! A segment ends with a sync flush. flate2 completes it only with a backend that keeps zlib's
//! contract, hence its feature `zlib-rs`: once `miniz_oxide` has filled an output buffer during a
//! flush, it drops the end of the stream.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read, Write as _};

use bytes::{Buf as _, Bytes};
use crc32fast::Hasher;
use flate2::Compression;
use flate2::bufread::DeflateDecoder;
use flate2::write::DeflateEncoder;

/// The fastest level of zlib-rs that adapts its codes to the text: level 1 makes pages 40 % larger.
const LEVEL: Compression = Compression::new(2);

/// Text is compressed in runs of this many bytes, so that no family is in memory uncompressed.
const RUN: usize = 64 * 1024;

/// The maximum number of bytes that are decompressed at a time.
const PORTION: usize = 32 * 1024;

/// The memory for decompressing a text: a portion, the window of 32 KiB and the decoder's state.
pub const INFLATING: usize = PORTION + 64 * 1024;

/// Header of a gzip member (RFC 1952, 2.3): deflate, no flags, no time, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// An empty final block with fixed codes (RFC 1951, 3.2.6): ends the stream.
const FINAL_BLOCK: [u8; 2] = [0x03, 0x00];

/// A compressed part of a page.
#[derive(Clone, Debug, Default)]
pub(super) struct Segment {
    deflate: Bytes,
    checksum: Hasher,
    length: u64,
}

impl Segment {
    /// Compresses `text`.
    pub(super) fn of(text: &[u8]) -> Self {
        let mut builder = SegmentBuilder::default();
        builder.push(text);
        builder.finish()
    }

    #[cfg(test)]
    pub(super) fn shares_memory_with(&self, other: &Self) -> bool {
        self.deflate.as_ptr() == other.deflate.as_ptr()
    }

    /// Whether the text is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// Compresses text run by run.
#[derive(Debug)]
pub(super) struct SegmentBuilder {
    deflate: DeflateEncoder<Vec<u8>>,
    text: Vec<u8>,
    checksum: Hasher,
    length: u64,
}

impl Default for SegmentBuilder {
    fn default() -> Self {
        Self {
            deflate: DeflateEncoder::new(Vec::new(), LEVEL),
            text: Vec::new(),
            checksum: Hasher::new(),
            length: 0,
        }
    }
}

impl SegmentBuilder {
    pub(super) fn push(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
        if self.text.len() >= RUN {
            self.compress_text();
        }
    }

    pub(super) fn finish(mut self) -> Segment {
        self.compress_text();
        if self.length == 0 {
            return Segment::default();
        }
        self.deflate.flush().expect("writing to a Vec cannot fail");
        let mut deflate = std::mem::take(self.deflate.get_mut());
        deflate.shrink_to_fit();
        Segment {
            deflate: deflate.into(),
            checksum: self.checksum,
            length: self.length,
        }
    }

    fn compress_text(&mut self) {
        self.checksum.update(&self.text);
        self.length += self.text.len() as u64;
        let written = self.deflate.write_all(&self.text);
        written.expect("writing to a Vec cannot fail");
        self.text.clear();
    }
}

impl io::Write for SegmentBuilder {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.push(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A text in compressed segments, sent compressed or decompressed on the fly.
#[derive(Debug, Default)]
pub struct Text {
    pub(super) segments: Vec<Segment>,
}

impl Text {
    /// Compresses the output of `write`.
    ///
    /// # Errors
    ///
    /// Those of `write`.
    pub fn written<E>(write: impl FnOnce(&mut dyn io::Write) -> Result<(), E>) -> Result<Self, E> {
        let mut builder = SegmentBuilder::default();
        write(&mut builder)?;
        let segments = vec![builder.finish()];
        Ok(Self { segments })
    }

    /// The number of bytes of the plain text.
    pub fn plain_length(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// The text as one gzip member, in chunks that share the memory of the segments.
    pub fn gzip(&self) -> Vec<Bytes> {
        let mut checksum = Hasher::new();
        for segment in &self.segments {
            checksum.combine(&segment.checksum);
        }
        let [a, b, c, d, ..] = self.plain_length().to_le_bytes();
        let trailer = [checksum.finalize().to_le_bytes(), [a, b, c, d]].concat();
        let header = [Bytes::from_static(&HEADER)].into_iter();
        header
            .chain(self.deflate())
            .chain([trailer.into()])
            .collect()
    }

    /// The plain text, decompressed in portions of at most 32 KiB on demand.
    pub fn plain(&self) -> impl Iterator<Item = Bytes> + Send + use<> {
        let mut inflated = DeflateDecoder::new(Chunks(self.deflate().collect()));
        std::iter::from_fn(move || next_portion(&mut inflated))
    }

    /// The segments as one complete deflate stream.
    fn deflate(&self) -> impl Iterator<Item = Bytes> {
        let segments = self.segments.iter().map(|segment| segment.deflate.clone());
        segments.chain([Bytes::from_static(&FINAL_BLOCK)])
    }
}

fn next_portion(inflated: &mut DeflateDecoder<Chunks>) -> Option<Bytes> {
    let mut portion = Vec::with_capacity(PORTION);
    let read = inflated.take(PORTION as u64).read_to_end(&mut portion);
    let length = read.expect("the segments were compressed here");
    (length > 0).then(|| Bytes::from(portion))
}

/// Reads chunks in order and drops each after it was read.
#[derive(Debug)]
struct Chunks(VecDeque<Bytes>);

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.0.front().is_some_and(Bytes::is_empty) {
            self.0.pop_front();
        }
        Ok(self.0.front().map_or(&[], |chunk| chunk))
    }

    fn consume(&mut self, read: usize) {
        if let Some(chunk) = self.0.front_mut() {
            chunk.advance(read);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::ops::Range;

    use flate2::read::GzDecoder;
    use miniz_oxide::inflate::decompress_to_vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// Text like that of a page, and noise that does not compress.
    fn texts(length: usize) -> [Vec<u8>; 2] {
        let lines =
            (0_u32..).flat_map(|n| format!("sample{{id=\"{n}\"}} {}\n", n % 7).into_bytes());
        let mut random = fastrand::Rng::with_seed(7);
        let noise = std::iter::repeat_with(|| random.u8(..));
        [lines.take(length).collect(), noise.take(length).collect()]
    }

    /// Inflates a gzip member with a decoder that shares no code with the encoder, and checks its
    /// header and trailer.
    pub(in crate::exposition) fn gunzip(member: &[u8]) -> Vec<u8> {
        let (header, rest) = member.split_first_chunk::<10>().unwrap();
        let (deflate, trailer) = rest.split_last_chunk::<8>().unwrap();
        assert_eq!(*header, HEADER);
        let text = decompress_to_vec(deflate)
            .map_err(|error| error.status)
            .unwrap();
        let (checksum, length) = trailer.split_at(4);
        assert_eq!(checksum, crc32fast::hash(&text).to_le_bytes());
        assert_eq!(length, u32::try_from(text.len()).unwrap().to_le_bytes());
        text
    }

    /// Joins segments and expects that every decoder reads `expected` from them.
    fn assert_holds(segments: &[Segment], expected: &[u8]) {
        let text = Text {
            segments: segments.to_vec(),
        };
        let member = text.gzip().concat();
        assert!(gunzip(&member) == expected, "miniz_oxide");
        let mut decoder = GzDecoder::new(&*member);
        let mut inflated = Vec::new();
        decoder.read_to_end(&mut inflated).unwrap();
        assert!(inflated == expected, "zlib-rs");
        assert!(decoder.into_inner().is_empty(), "a second member follows");
        let portions: Vec<Bytes> = text.plain().collect();
        assert!(portions.concat() == expected, "portions");
        assert!(portions.iter().all(|portion| portion.len() <= PORTION));
        assert_eq!(text.plain_length(), expected.len() as u64);
    }

    fn segments_of_every_length(lengths: Range<usize>) {
        for source in texts(lengths.end) {
            for batch in lengths.clone().collect::<Vec<_>>().chunks(500) {
                let parts: Vec<&[u8]> = batch.iter().map(|length| &source[..*length]).collect();
                let segments: Vec<Segment> = parts.iter().map(|text| Segment::of(text)).collect();
                assert_holds(&segments, &parts.concat());
            }
        }
    }

    #[test]
    fn segments_of_every_length_up_to_10_000_bytes_are_complete() {
        segments_of_every_length(0..10_000);
    }

    #[test]
    fn segments_of_every_length_from_10_000_to_20_000_bytes_are_complete() {
        segments_of_every_length(10_000..20_001);
    }

    #[test]
    fn long_segments_are_complete() {
        let sources = texts(300_000);
        for length in (20_000..300_000).step_by(997) {
            for source in &sources {
                let text = &source[..length];
                assert_holds(&[Segment::of(text)], text);
            }
        }
    }

    #[test]
    fn a_page_without_text_is_an_empty_member() {
        assert_holds(&[], b"");
        assert_holds(&[Segment::of(b"")], b"");
        assert!(Segment::of(b"").is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn segments_from_random_portions_join_in_any_order(
            cuts in proptest::collection::vec(
                (any::<bool>(), proptest::collection::vec(0_usize..90_000, 0..5)),
                1..5,
            ),
            order in proptest::collection::vec(any::<Index>(), 0..8),
        ) {
            let [lines, noise] = texts(90_000);
            let built: Vec<(Segment, Vec<u8>)> = cuts.iter().map(|(compressible, portions)| {
                let source = if *compressible { &lines } else { &noise };
                let portions: Vec<&[u8]> = portions.iter().map(|length| &source[..*length]).collect();
                let mut builder = SegmentBuilder::default();
                for portion in &portions {
                    builder.push(portion);
                }
                (builder.finish(), portions.concat())
            }).collect();
            let joined: Vec<&(Segment, Vec<u8>)> = order.iter().map(|index| index.get(&built)).collect();
            let segments: Vec<Segment> = joined.iter().map(|(segment, _)| segment.clone()).collect();
            let expected: Vec<u8> = joined.iter().flat_map(|(_, text)| text.clone()).collect();
            assert_holds(&segments, &expected);
        }
    }
}
