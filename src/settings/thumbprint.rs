//! Thumbprints of certificates.

use std::fmt;
use std::str::FromStr;

/// Hash of the DER encoding of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Thumbprint {
    /// SHA-1: the thumbprint in Windows and Service Fabric.
    Sha1([u8; 20]),
    /// SHA-256.
    Sha256([u8; 32]),
}

impl FromStr for Thumbprint {
    type Err = ();

    /// Parses hexadecimal digits. Ignores colons, white space, and the left-to-right mark with which
    /// the Windows certificate dialog starts a copied thumbprint.
    fn from_str(text: &str) -> Result<Self, ()> {
        let is_ignored =
            |c: &char| *c == ':' || c.is_whitespace() || ('\u{200e}'..='\u{200f}').contains(c);
        let digits = text.chars().filter(|c| !is_ignored(c));
        let digits: Vec<u8> = digits
            .map(|c| {
                c.to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
                    .ok_or(())
            })
            .collect::<Result<_, _>>()?;
        let bytes = |pair: &[u8]| pair.iter().fold(0, |byte, digit| byte << 4 | digit);
        let bytes: Vec<u8> = digits.chunks(2).map(bytes).collect();
        match digits.len() {
            40 => bytes.try_into().map(Self::Sha1).map_err(drop),
            64 => bytes.try_into().map(Self::Sha256).map_err(drop),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: &[u8] = match self {
            Self::Sha1(bytes) => bytes,
            Self::Sha256(bytes) => bytes,
        };
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA1: &str = "150112AA0F5BBEE52C3F59A4F0E3A1D95E58C0DE";

    #[test]
    fn separators_of_dialogs_and_tools_are_ignored() {
        let expected: Thumbprint = SHA1.parse().unwrap();
        let pairs: Vec<_> = SHA1
            .as_bytes()
            .chunks(2)
            .map(|pair| str::from_utf8(pair).unwrap())
            .collect();
        for text in [
            SHA1.to_lowercase(),
            pairs.join(":"),
            pairs.join(" "),
            format!("\u{200e}{}", pairs.join(" ").to_lowercase()),
            format!(" {SHA1}\n"),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text:?}");
        }
        assert_eq!(expected.to_string(), SHA1);
        let long: Thumbprint = "ab".repeat(32).parse().unwrap();
        assert_eq!(long, Thumbprint::Sha256([0xab; 32]));
    }

    #[test]
    fn other_text_is_rejected() {
        for text in [
            "",
            "15",
            SHA1.trim_start_matches("15"),
            &format!("{SHA1}00"),
            &SHA1.replace('1', "G"),
            &"é".repeat(40),
        ] {
            assert_eq!(text.parse::<Thumbprint>(), Err(()), "{text:?}");
        }
    }
}
