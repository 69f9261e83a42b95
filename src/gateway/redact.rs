//! Blanks secrets in the free text of failure messages, and bounds its length.
//!
//! Storage errors quote connection strings and signed addresses. Rather too much is blanked than
//! too little: a password may hold any character, so its value only ends at a semicolon, at a
//! line break or at its closing quote.

use std::sync::LazyLock;

use regex::Regex;

/// Longest message kept, in characters.
const MAX_CHARACTERS: usize = 1_024;

/// `text` without secrets, then cut: the other order could cut a key off its value's end and
/// leave the value.
pub(super) fn presentable(text: &str) -> String {
    let mut text = without_secrets(text);
    if let Some((end, _)) = text.char_indices().nth(MAX_CHARACTERS) {
        text.truncate(end);
    }
    text
}

/// Replaces the values of everything that is named like a secret by `***`.
fn without_secrets(text: &str) -> String {
    SECRET.replace_all(text, "${phrase}${key}***").into_owned()
}

static SECRET: LazyLock<Regex> = LazyLock::new(|| {
    let separator = r#"[\\"']*\s*(?:=|:|%3[Dd])\s*"#;
    let quoted = r#"\\?"[^"]*"?|'[^']*'?"#;
    let phrase = r"(?i-u:password|passwd|pwd|passphrase|secret|authorization)";
    let key = r"(?i-u:accountkey|accesskey|sharedkey|apikey|signature|token|credential|\bsig)";
    let pattern = format!(
        r#"(?P<phrase>{phrase}{separator})(?:{quoted}|[^;\r\n]*)|(?P<key>{key}{separator})(?:{quoted}|[^;&\s"'\\]*)"#
    );
    Regex::new(&pattern).expect("the pattern is fixed, and every test here compiles it")
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_of_secrets_are_blanked() {
        for (text, blanked) in [
            (
                "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=aGVs+bG8/d29ybGQ==;EndpointSuffix=x",
                "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=***;EndpointSuffix=x",
            ),
            (
                "https://shop.blob.core.windows.net/c?sv=2020-08-04&sig=a%2Bb%3D&se=2030 failed",
                "https://shop.blob.core.windows.net/c?sv=2020-08-04&sig=***&se=2030 failed",
            ),
            (
                "SharedAccessSignature=sv=2020&SIG=abc;x",
                "SharedAccessSignature=***&SIG=***;x",
            ),
            (
                "SharedAccessKeyName=Root;sharedaccesskey = abc=;x",
                "SharedAccessKeyName=Root;sharedaccesskey = ***;x",
            ),
            (
                r"\\share\backup: UserName=svc;Password=a&b c'd;Timeout=5",
                r"\\share\backup: UserName=svc;Password=***;Timeout=5",
            ),
            ("Pwd=\"a;b\" was refused", "Pwd=*** was refused"),
            (
                "{\"Password\": \"a;b\", \"UserName\": \"svc\"}",
                "{\"Password\": ***, \"UserName\": \"svc\"}",
            ),
            (
                r#"{\"AccountKey\":\"abc\",\"Container\":\"c\"}"#,
                r#"{\"AccountKey\":***,\"Container\":\"c\"}"#,
            ),
            (
                "client_secret=abc\r\nnext line",
                "client_secret=***\r\nnext line",
            ),
            ("sig%3Dabc&x", "sig%3D***&x"),
            (
                "design=good, the key was not found",
                "design=good, the key was not found",
            ),
        ] {
            assert_eq!(without_secrets(text), blanked, "{text}");
        }
    }

    #[test]
    fn a_cut_never_exposes_a_secret() {
        let text = format!("{}AccountKey=geheim;", "é".repeat(MAX_CHARACTERS - 13));
        let shown = presentable(&text);
        assert_eq!(shown.chars().count(), MAX_CHARACTERS);
        assert!(shown.ends_with("AccountKey=**"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_secret_survives_among_arbitrary_neighbours(
            before in "[a-z ;&=:\"'\n]{0,20}",
            name in "AccountKey|SharedAccessSignature|sharedaccesskey|Password|PWD|[;&?]sig",
            secret in "[0-9A-Z+/]{8,40}={0,2}",
            after in "([;&\n ][a-z ;&=]{0,20})?",
        ) {
            let shown = presentable(&format!("{before}{name}={secret}{after}"));
            prop_assert!(!shown.contains(&secret), "{}", shown);
        }

        #[test]
        fn any_text_becomes_short(text in "(?s).{0,3000}") {
            prop_assert!(presentable(&text).chars().count() <= MAX_CHARACTERS);
        }
    }
}
