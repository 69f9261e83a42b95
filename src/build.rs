//! Build script: tells the program from which revision and by which compiler it was built.

#![expect(
    clippy::disallowed_methods,
    reason = "a build script has nothing but the environment"
)]

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-env-changed=SFBE_REVISION");
    // Packagers build from archives: they name the revision by this variable.
    let revision = env::var("SFBE_REVISION")
        .ok()
        .or_else(|| output("git", &["rev-parse", "--short=12", "HEAD"]));
    let rustc = env::var("RUSTC")
        .ok()
        .and_then(|rustc| output(&rustc, &["--version"]));
    // `rustc 1.95.0 (59807616e 2026-04-14)`: the number is enough for a label.
    let rustc = rustc.and_then(|version| version.split(' ').nth(1).map(str::to_owned));
    println!(
        "cargo::rustc-env=SFBE_REVISION={}",
        revision.as_deref().unwrap_or("unknown")
    );
    println!(
        "cargo::rustc-env=SFBE_RUSTC={}",
        rustc.as_deref().unwrap_or("unknown")
    );
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
