//! Reads configured files: configurations, certificates, keys, tokens.
//!
//! The size is limited, so that a wrong path costs little memory. Text with a byte order mark is
//! converted to UTF-8.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Maximum size of a file in bytes; a bundle of all public authorities has a quarter of it.
const MAX_SIZE: u64 = 1024 * 1024;

/// The contents of the file at `path`, in UTF-8 if they start with a byte order mark; `None` if the file is
/// larger than [`MAX_SIZE`].
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut contents = Vec::new();
    // One more byte shows that it is too large.
    File::open(path)?
        .take(MAX_SIZE + 1)
        .read_to_end(&mut contents)?;
    let fits = u64::try_from(contents.len()).is_ok_and(|length| length <= MAX_SIZE);
    Ok(fits.then(|| without_byte_order_mark(contents)))
}

/// Windows tools write UTF-8 with a byte order mark, and redirection in Windows PowerShell writes UTF-16.
/// Binary formats (DER, PKCS#12) start with 0x30, never with a byte order mark. Invalid UTF-16, which is
/// also invalid UTF-8, is returned unchanged.
fn without_byte_order_mark(contents: Vec<u8>) -> Vec<u8> {
    let text = match contents.as_slice() {
        [0xef, 0xbb, 0xbf, text @ ..] => Some(text.to_vec()),
        [0xff, 0xfe, text @ ..] => utf8_of(text, u16::from_le_bytes),
        [0xfe, 0xff, text @ ..] => utf8_of(text, u16::from_be_bytes),
        _ => None,
    };
    text.unwrap_or(contents)
}

/// Converts UTF-16 to UTF-8; `None` if it is invalid.
fn utf8_of(text: &[u8], unit: fn([u8; 2]) -> u16) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_chunks();
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    let text = String::from_utf16(&units).ok()?;
    rest.is_empty().then(|| text.into_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(bytes).collect()
    }

    proptest! {
        #[test]
        fn text_with_a_byte_order_mark_is_converted_to_utf8(text in any::<String>()) {
            let text = text.trim_start_matches('\u{feff}');
            let marked = format!("\u{feff}{text}").into_bytes();
            for file in [marked, utf16(text, u16::to_le_bytes), utf16(text, u16::to_be_bytes)] {
                prop_assert_eq!(without_byte_order_mark(file), text.as_bytes());
            }
        }

        #[test]
        fn contents_without_a_byte_order_mark_are_unchanged(
            contents in prop::collection::vec(any::<u8>(), 0..64)
        ) {
            let first = contents.first().copied().unwrap_or_default();
            prop_assume!(!matches!(first, 0xef | 0xfe | 0xff));
            prop_assert_eq!(without_byte_order_mark(contents.clone()), contents);
        }
    }

    #[test]
    fn invalid_utf16_is_unchanged() {
        for contents in [
            &b"\xff\xfea"[..],
            b"\xff\xfe\x00\xd8",
            b"\xfe\xff\xdc\x00a\x00",
        ] {
            assert_eq!(without_byte_order_mark(contents.to_vec()), contents);
        }
    }
}
