//! Configured text in messages.

/// `text` in quotes, on one line: control characters are escaped, and it is cut after 60 characters
/// and at the start of anything that looks like a bcrypt hash.
pub(crate) fn quoted(text: &str) -> String {
    const MAX_LENGTH: usize = 60;
    const BCRYPT_PREFIX: &str = "$2";
    let hash = text.split_once(BCRYPT_PREFIX);
    let shown = hash.map_or_else(
        || text.to_owned(),
        |(before, _)| before.to_owned() + BCRYPT_PREFIX,
    );
    let start: String = shown.chars().take(MAX_LENGTH).collect();
    let is_cut = hash.is_some() || start.len() < shown.len();
    format!("{start:?}{}", if is_cut { "…" } else { "" })
}
