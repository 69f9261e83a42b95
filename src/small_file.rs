//! The reading of files that people write: configurations, certificates, keys, tokens.
//!
//! Reads whole files up to one bound and no further, so that naming the wrong file costs little
//! memory, and converts text that begins with a byte order mark to plain UTF-8. It must not
//! interpret the contents in any other way.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Largest file that is read, in bytes: a bundle of all public authorities is a quarter of it.
const MAX_FILE: u64 = 1024 * 1024;

/// Everything in the file at `path`, as UTF-8 if it begins with a byte order mark; `None` when the
/// file is larger than [`MAX_FILE`].
///
/// # Errors
///
/// Those of opening and reading it.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut contents = Vec::new();
    // One byte more proves that it is too large.
    File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut contents)?;
    let fits = u64::try_from(contents.len()).is_ok_and(|length| length <= MAX_FILE);
    Ok(fits.then(|| without_byte_order_mark(contents)))
}

/// Windows tools begin UTF-8 text with a byte order mark, and the redirection of Windows PowerShell
/// writes UTF-16. The binary formats read here (DER, PKCS#12) begin with 0x30, never with a mark.
/// Invalid UTF-16 is returned as it is: it is not valid UTF-8 either.
fn without_byte_order_mark(contents: Vec<u8>) -> Vec<u8> {
    let text = match contents.as_slice() {
        [0xef, 0xbb, 0xbf, text @ ..] => Some(text.to_vec()),
        [0xff, 0xfe, text @ ..] => utf8_of(text, u16::from_le_bytes),
        [0xfe, 0xff, text @ ..] => utf8_of(text, u16::from_be_bytes),
        _ => None,
    };
    text.unwrap_or(contents)
}

/// UTF-16 text as UTF-8; `None` when it is not valid UTF-16.
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
        fn text_in_every_encoding_with_a_byte_order_mark_is_read_as_utf8(text in any::<String>()) {
            let text = text.trim_start_matches('\u{feff}');
            let marked = format!("\u{feff}{text}").into_bytes();
            for file in [marked, utf16(text, u16::to_le_bytes), utf16(text, u16::to_be_bytes)] {
                prop_assert_eq!(without_byte_order_mark(file), text.as_bytes());
            }
        }

        #[test]
        fn contents_without_a_byte_order_mark_stay_as_they_are(
            contents in prop::collection::vec(any::<u8>(), 0..64)
        ) {
            let first = contents.first().copied().unwrap_or_default();
            prop_assume!(!matches!(first, 0xef | 0xfe | 0xff));
            prop_assert_eq!(without_byte_order_mark(contents.clone()), contents);
        }
    }

    #[test]
    fn invalid_utf16_stays_as_it_is() {
        for contents in [
            &b"\xff\xfea"[..],
            b"\xff\xfe\x00\xd8",
            b"\xfe\xff\xdc\x00a\x00",
        ] {
            assert_eq!(without_byte_order_mark(contents.to_vec()), contents);
        }
    }
}
