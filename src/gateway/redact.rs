//! Blanks secrets in the free text of failure messages, and bounds its length.
//!
//! Storage errors quote connection strings, signed addresses and request headers. When in
//! doubt, text is blanked: a password can contain any character, so its value only ends at a
//! semicolon, at a line break or at its closing quote.
//!
//! Invariant: only the first bytes of a text are read, so a hostile text has a bounded cost.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// Longest message kept, in characters.
const MAX_CHARACTERS: usize = 1_024;

/// Most bytes of a text that are read: many times the length shown, as secrets get shorter.
const MAX_READ: usize = 16 * 1_024;

/// Shortest text after `Bearer` or `Basic` that is taken for credentials.
const MIN_CREDENTIALS: usize = 6;

/// Shortest text there that is taken for credentials although it consists of words.
const LONG_WORD: usize = 16;

/// `text` without secrets, then cut: the other order could cut a key off its value's end and
/// leave the value.
pub(super) fn presentable(text: &str) -> String {
    let mut text = without_secrets(beginning(text));
    if let Some((end, _)) = text.char_indices().nth(MAX_CHARACTERS) {
        text.truncate(end);
    }
    text
}

/// As much of `text` as is read. It ends between two words, because half of `user:password@` could
/// not be distinguished from a host with its port.
fn beginning(text: &str) -> &str {
    if text.len() <= MAX_READ {
        return text;
    }
    let end = (0..=MAX_READ).rev().find(|end| text.is_char_boundary(*end));
    let head = end.and_then(|end| text.get(..end)).unwrap_or_default();
    head.rsplit_once(char::is_whitespace)
        .map_or("", |(head, _)| head)
}

/// Replaces secrets by `***`: credentials of a header, those in a URL, and the values of all names
/// of secrets. In this order, because a value of the last kind can end at the blank in `Bearer …`.
fn without_secrets(text: &str) -> String {
    let text = SCHEME.replace_all(text, blank_credentials);
    let text = SHARED_KEY.replace_all(&text, "${1}***");
    let text = USER_INFO.replace_all(&text, "${plain}${encoded}***@");
    SECRET.replace_all(&text, "${phrase}${key}***").into_owned()
}

fn blank_credentials(captures: &Captures<'_>) -> String {
    let [whole, value] = [0, 1].map(|group| captures.get(group).map_or("", |it| it.as_str()));
    match whole.strip_suffix(value) {
        Some(scheme) if are_credentials(value) => format!("{scheme}***"),
        _ => whole.to_owned(),
    }
}

/// Distinguishes a token from the words of a sentence, as in `Bearer authentication failed`.
fn are_credentials(text: &str) -> bool {
    let text = text.trim_end_matches(['.', '=']);
    let is_word = |part: &str| {
        let rest = part.strip_prefix(|c: char| c.is_ascii_alphabetic());
        rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_lowercase()))
    };
    let are_words = || text.split(['-', '/']).all(is_word);
    text.len() >= MIN_CREDENTIALS && (text.len() >= LONG_WORD || !are_words())
}

/// The schemes of RFC 6750 and RFC 7617 with what follows, which may be quoted or encoded for a URL.
static SCHEME: LazyLock<Regex> = LazyLock::new(|| {
    let between = r#"(?:[\s:=+"'\\]|%(?:25)?(?:2[02]|3[AaDd]))+"#;
    let value = r"([A-Za-z0-9._~+/%-]+=*)";
    compiled(&format!(r"(?:(?i-u:bearer|basic){between})+{value}"))
});

/// The scheme of Azure Storage, where the signature follows the name of the account.
static SHARED_KEY: LazyLock<Regex> = LazyLock::new(|| {
    compiled(r#"((?i-u:sharedkey(?:lite)?)\s+[^\s:;,"'\\]{1,99}:\s*)[^;&\s"'\\]*"#)
});

/// `user:password@` in a URL, which may be escaped for JSON or encoded for another URL.
static USER_INFO: LazyLock<Regex> = LazyLock::new(|| {
    let plain = r#"[^\s/?#"'<>]*"#;
    // The password has a character that should be encoded. Digits up to a slash are a port.
    let malformed = r#"[^\s/?#:@\["'<>]+:[0-9]*[^\s0-9/?#"'<>@\\][^\s"'<>]*"#;
    // Any escape but those of `#`, `/` and `?`.
    let escape = "%(?:[014-9A-Fa-f][0-9A-Fa-f]|2[0-24-9A-Ea-e]|3[0-9A-Ea-e])";
    let encoded = format!(r#"(?:[^\s/?#&;"'<>%@]|{escape})*"#);
    compiled(&format!(
        r"(?P<plain>:(?:\\?/){{2}})(?:{plain}|{malformed})@|(?P<encoded>%3[Aa](?:%2[Ff]){{2}}){encoded}(?:@|%40)"
    ))
});

/// A name that suggests a secret, with its value.
static SECRET: LazyLock<Regex> = LazyLock::new(|| {
    let separator = r#"(?:[\\"']|%22)*\s*(?:=|:|%(?:25)?3[AaDd]|\\u003[Dd])\s*"#;
    let phrase = r"(?i-u:password|passwd|pwd|passphrase|secret|authorization)";
    // After an escaped quote the end of the line: an escaped quote can be part of the password.
    let text = r#"\\+"[^\r\n]*|"(?:\\.|""|[^"\\])*"?|'(?:''|[^'])*'?|[^;\r\n]*"#;
    let key = r"(?i-u:(?:account|access|shared|api[-_ ]?|functions?[-_]?|subscription[-_]?)key|signature|token|credential)";
    // In a URL that is escaped for JSON or encoded, a digit or letter precedes the name.
    let parameter = r"\\u0026|%(?:25)?(?:26|3[Ff])";
    let sig = format!(r"(?:\b|{parameter})(?i-u:sig)");
    // The key of an Azure Function; elsewhere a code is no secret.
    let code = format!(r"(?:[?&;]|{parameter})(?i-u:code)(?:=|%(?:25)?3[Dd])");
    let word = r#"\\*"[^"]*"?|'[^']*'?|[^;&\s"'\\]*"#;
    compiled(&format!(
        r"(?P<phrase>{phrase}{separator})(?:{text})|(?P<key>(?:{key}|{sig}){separator}|{code})(?:{word})"
    ))
});

fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is fixed, and the tests here compile it")
}

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
    fn credentials_of_headers_and_urls_are_blanked() {
        for (text, blanked) in [
            (
                "sent Bearer eyJhbGciOi.eyJzdWIi.c2ln, got 401",
                "sent Bearer ***, got 401",
            ),
            ("bearer hunter2", "bearer ***"),
            ("Basic: Bearer Bearer abc123", "Basic: Bearer Bearer ***"),
            ("Bearer Bearer", "Bearer Bearer"),
            ("BEARER%20SECRETSECRET", "BEARER%20***"),
            (
                r#"{"Authorization":"Bearer abc123def"}"#,
                r#"{"Authorization":***}"#,
            ),
            ("proxy said Basic dXNlcjpwYXNz.", "proxy said Basic ***"),
            ("sig=Bearer abc123def", "sig=*** ***"),
            (
                "SharedKey shop:aGVs+bG8/d29ybGQ= was refused",
                "SharedKey shop:*** was refused",
            ),
            ("sharedkeylite shop: abc=", "sharedkeylite shop: ***"),
            (
                "GET https://svc:hunter2@store.example.org/c failed",
                "GET https://***@store.example.org/c failed",
            ),
            ("ftp://hunter2@host", "ftp://***@host"),
            (
                "amqp://svc:hun/ter#2@host:5671/q?x",
                "amqp://***@host:5671/q?x",
            ),
            (r"https:\/\/svc:hunter2@host\/c", r"https:\/\/***@host\/c"),
            (
                "u=https%3A%2F%2Fsvc%3Ahunter2%40host%2Fc&x",
                "u=https%3A%2F%2F***@host%2Fc&x",
            ),
            ("X-Api-Key: hunter2", "X-Api-Key: ***"),
            ("apikey=hunter2&x=1", "apikey=***&x=1"),
            ("API key 'hunter2'", "API key 'hunter2'"),
            ("x-functions-key: hunter2", "x-functions-key: ***"),
            (
                "https://f.azurewebsites.net/api/f?code=abc/def==&x=1",
                "https://f.azurewebsites.net/api/f?code=***&x=1",
            ),
            (
                r"https://host/c?sv=1\u0026sig=abc\u0026x",
                r"https://host/c?sv=1\u0026sig=***\u0026x",
            ),
            ("c%3Fsv%3D1%26sig%3Dabc", "c%3Fsv%3D1%26sig%3D***"),
            (
                r#"\\\"access_token\\\":\\\"abc\\\",\\\"x\\\""#,
                r#"\\\"access_token\\\":***,\\\"x\\\""#,
            ),
            (r#"\"pwd\":\"a;b\",\"x\""#, r#"\"pwd\":***"#),
            (r#"Password="a"";b";x"#, "Password=***;x"),
            (r#"{"password":"a\";b","x":1}"#, r#"{"password":***,"x":1}"#),
        ] {
            assert_eq!(without_secrets(text), blanked, "{text}");
        }
    }

    #[test]
    fn harmless_text_is_unchanged() {
        for text in [
            "The bearer of this letter, and the Bearer authentication scheme.",
            "Bearer token-based; basic read/write access, Basic HTTP, basic tier.",
            "WWW-Authenticate: Bearer realm=\"\", Basic",
            "error code=0x80071B26, exit code: 5, HTTP status code 500",
            "https://node1:19080/Applications/Shop?mail=a@example.org",
            "http://[2001:db8::1]:19080/x?y=a@b",
            "Mail ops@example.org, or look at https://example.org/@ops.",
            "https%3A%2F%2Fhost%2Fpath%3Fmail%3Da%40example.org",
            "SharedKey authentication failed for account shop",
            "The signature and the token of the design are fine; monkey=1, PartitionKey=7",
            "Upload ended: 12:30:00, C:\\backup\\store, fabric:/Shop/Orders",
        ] {
            assert_eq!(without_secrets(text), text);
        }
    }

    #[test]
    fn huge_messages_are_shown_short_and_without_secrets() {
        for part in [
            "password=\\\"a;",
            "password=\"",
            "AccountKey='",
            "://a:b/",
            "Bearer Bearer12 ",
            "token          ",
            "%3A%2F%2Fa%40%3Fcode%3D",
        ] {
            for end in ["\n", "@", "\"\n"] {
                let text = part.repeat((4 << 20) / part.len()) + end;
                assert!(presentable(&text).chars().count() <= MAX_CHARACTERS);
            }
        }
        // Secrets make the text so short that the place where reading ends is shown.
        for length in 0..40 {
            let text = format!(
                "AccountKey={};{} https://svc:hunter2@host {}",
                "k".repeat(MAX_READ - 60),
                "x".repeat(length),
                "y".repeat(MAX_READ)
            );
            let shown = presentable(&text);
            assert!(!shown.contains("hun"), "{shown}");
        }
    }

    #[test]
    fn a_cut_never_exposes_a_secret() {
        let text = format!("{}AccountKey=geheim;", "é".repeat(MAX_CHARACTERS - 13));
        let shown = presentable(&text);
        assert_eq!(shown.chars().count(), MAX_CHARACTERS);
        assert!(shown.ends_with("AccountKey=**"), "{shown}");
    }

    /// A secret in a context that identifies it as one, with the texts that can follow it.
    fn form() -> impl Strategy<Value = (&'static str, &'static [&'static str])> {
        const VALUE: &[&str] = &["", ";x", "&x=1", " x", "\nx", "\r\nx", "\"", "'", r#"\""#];
        const LINE: &[&str] = &["", ";x", "\nx", "\r\nx"];
        const HOST: &[&str] = &["@host", "@host/c?d=e", "@[::1]:80 x"];
        const QUOTED: &[&str] = &["\"", "\",\"x\":1}", "\"\nx"];
        const ESCAPED: &[&str] = &[r#"\""#, r#"\",\"x\":1}"#];
        const ENCODED: &[&str] = &["", "%26x", " x"];
        proptest::sample::select(vec![
            ("AccountKey=", VALUE),
            ("accountkey = ", VALUE),
            ("SharedAccessSignature=", VALUE),
            ("API_KEY=", VALUE),
            ("api-key: ", VALUE),
            ("x-api-key:", VALUE),
            ("apikey=", VALUE),
            ("access_token=", VALUE),
            ("?code=", VALUE),
            ("&amp;code=", VALUE),
            ("?sv=1&sig=", VALUE),
            (r"?sv=1\u0026SIG=", VALUE),
            ("SharedKey shop:", VALUE),
            ("SharedKeyLite shop:", VALUE),
            ("Bearer ", VALUE),
            ("bearer\t", VALUE),
            ("Authorization: Bearer ", VALUE),
            ("Authorization: Basic ", VALUE),
            ("BASIC ", VALUE),
            ("client_secret=", LINE),
            ("Password=", LINE),
            ("pwd: ", LINE),
            ("passwd=", LINE),
            ("https://svc:", HOST),
            ("HTTPS://", HOST),
            (r"https:\/\/svc:", HOST),
            ("{\"Password\": \"", QUOTED),
            ("{\"token\":\"", QUOTED),
            ("Pwd=\"", QUOTED),
            ("{\"Authorization\":\"Bearer ", QUOTED),
            (r#"{\"AccountKey\":\""#, ESCAPED),
            (r#"{\"Password\":\""#, ESCAPED),
            (r#"{\"authorization\" : \"Basic "#, ESCAPED),
            ("AccountKey%3D", ENCODED),
            ("x%3Fsv%3D1%26sig%3D", ENCODED),
            ("f%3Fcode%3D", ENCODED),
            ("password%3D", ENCODED),
            ("Bearer%20", ENCODED),
            ("https%3A%2F%2Fsvc%3A", &["%40host", "@host"]),
        ])
    }

    proptest! {
        #[test]
        fn no_secret_survives_in_any_form(
            parts in prop::collection::vec(
                ("[ \n][a-z ,.]{0,20}[ \n(\"\']", form(), "[0-9A-Za-z]{12}[0-9]{4}[A-Z+/]{0,20}={0,2}", any::<prop::sample::Index>()),
                1..6,
            ),
        ) {
            let mut text = String::new();
            for (before, (start, ends), secret, end) in &parts {
                // In these places the characters of base64 that have a meaning in URLs are encoded.
                let secret = if start.contains('%') || start.contains("//") {
                    secret.replace(['+', '/', '='], "%2B")
                } else {
                    secret.clone()
                };
                let end: &str = end.get::<&str>(ends);
                text.extend([before.as_str(), start, &secret, end]);
            }
            let shown = without_secrets(&text);
            for (_, _, secret, _) in &parts {
                let begins = secret.get(..16).unwrap();
                prop_assert!(!shown.contains(begins), "{}\n{}", text, shown);
            }
        }

        #[test]
        fn text_without_secrets_is_unchanged(
            words in prop::collection::vec(
                "[A-Z]?[a-z]{1,15}|[0-9]{1,6}|fabric:/[A-Z][a-z]{1,9}|https://[a-z]{1,9}:[0-9]{1,5}/[a-z]{0,9}|[a-z]{1,9}@[a-z]{1,9}|the bearer of|Basic access|code=0x[0-9A-F]{8}",
                0..40,
            ),
            separator in "[ \n]|, |; |\\. ",
        ) {
            let text = words.join(&separator);
            let named = ["password", "passwd", "pwd", "passphrase", "secret", "authorization", "token", "sig", "key", "credential"];
            prop_assume!(!named.iter().any(|name| text.to_lowercase().contains(name)));
            prop_assert_eq!(without_secrets(&text), text);
        }

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
