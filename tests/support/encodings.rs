//! Text as Windows tools save it.

/// With CRLF, in UTF-8 with a byte order mark and in both kinds of UTF-16.
pub(crate) fn saved_by_windows(text: &str) -> [Vec<u8>; 3] {
    let text = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    let utf16 = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect();
    let (little, big) = (utf16(u16::to_le_bytes), utf16(u16::to_be_bytes));
    [text.into_bytes(), little, big]
}
