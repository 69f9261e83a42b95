//! Golden files and generated pages are compared, or written when somebody asks for it.

/// Whether to write them: after a message or a source was changed, run the test with `BLESS=1` and
/// read the difference.
#[expect(
    clippy::disallowed_methods,
    reason = "a switch of the tests, not of the program"
)]
pub(crate) fn bless() -> bool {
    std::env::var("BLESS").is_ok_and(|value| value == "1")
}
