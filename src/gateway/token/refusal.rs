//! What a token endpoint says when it refuses, made fit to be shown, and what to do about it.
//!
//! The words come from the network: they are bounded, on one line, without control characters,
//! and without the secret that was sent, should it be quoted. The codes of Entra ID are for people
//! and may change; nothing but advice depends on them.

use std::fmt;

use serde_json::Value;
use url::form_urlencoded::byte_serialize;

use crate::gateway::decode;
use crate::gateway::redact;

/// Longest error code and longest description shown, in characters.
const MAX_CODE: usize = 64;
const MAX_DESCRIPTION: usize = 300;

/// Why a token endpoint gives no token, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct Refusal {
    code: String,
    /// First line of it.
    description: String,
}

impl Refusal {
    /// Reads `{"error":"…","error_description":"…"}` of Entra ID and virtual machines, and
    /// `{"error":{"code":"…","message":"…"}}` of Service Fabric; never shows `secret`.
    pub(super) fn read(body: &[u8], secret: &str) -> Option<Self> {
        let document: Value = serde_json::from_slice(decode::without_padding(body)).ok()?;
        let error = document.get("error")?;
        let (code, description) = match error {
            Value::Object(error) => (error.get("code")?, error.get("message")),
            code => (code, document.get("error_description")),
        };
        let description = description.and_then(Value::as_str).unwrap_or_default();
        Some(Self {
            code: shown(code.as_str()?, MAX_CODE, secret),
            description: shown(description, MAX_DESCRIPTION, secret),
        })
    }

    /// What mends it, where that is known.
    fn advice(&self) -> Option<&'static str> {
        let known = |(code, _): &&(&str, &str)| has_word(&self.description, code);
        ADVICE.iter().find(known).map(|(_, advice)| *advice)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if !self.description.is_empty() {
            write!(f, ": {}", self.description)?;
        }
        match self.advice() {
            Some(advice) => write!(f, " ({advice})"),
            None => Ok(()),
        }
    }
}

/// By the codes of <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>.
const ADVICE: [(&str, &str); 9] = [
    (
        "AADSTS7000215",
        "the secret is wrong: write its value, not its id, into client_secret_file",
    ),
    (
        "AADSTS7000222",
        "the secret has expired: make a new one and write it into client_secret_file",
    ),
    (
        "AADSTS700016",
        "this directory has no such application: check client_id and tenant_id",
    ),
    (
        "AADSTS7000112",
        "the exporter's application is disabled: enable it in the directory",
    ),
    ("AADSTS90002", UNKNOWN_TENANT),
    ("AADSTS900023", UNKNOWN_TENANT),
    (
        "AADSTS500011",
        "this directory has no such application for the cluster: check cluster_application_id and \
         tenant_id",
    ),
    ("AADSTS50105", NO_ROLE),
    ("AADSTS501051", NO_ROLE),
];

const UNKNOWN_TENANT: &str = "there is no such directory: check tenant_id and authority";

const NO_ROLE: &str = "assign the app role `User` of the cluster application to the exporter's \
                       service principal";

/// Whether `code` stands in `text` and is not the beginning of a longer one.
fn has_word(text: &str, code: &str) -> bool {
    text.match_indices(code).any(|(at, _)| {
        let rest = text.get(at + code.len()..).unwrap_or_default();
        !rest.starts_with(|c: char| c.is_ascii_digit())
    })
}

fn shown(text: &str, limit: usize, secret: &str) -> String {
    let mut text = text.to_owned();
    if !secret.is_empty() {
        let encoded: String = byte_serialize(secret.as_bytes()).collect();
        text = text.replace(secret, "***").replace(&encoded, "***");
    }
    let line = text.trim().lines().next().unwrap_or_default();
    // What follows is another one in each answer, and says nothing.
    let line = line.split(" Trace ID:").next().unwrap_or_default();
    redact::presentable(line)
        .chars()
        .filter(|c| !c.is_control())
        .take(limit)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(body: &str) -> Option<String> {
        Refusal::read(body.as_bytes(), "hunter2+/").map(|refusal| refusal.to_string())
    }

    #[test]
    fn a_refusal_is_told_with_what_mends_it() {
        let entra = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided. Ensure the secret being sent is the value.\r\nTrace ID: 1\r\nTimestamp: 2026","error_codes":[7000215]}"#;
        assert_eq!(
            told(entra).unwrap(),
            "invalid_client: AADSTS7000215: Invalid client secret provided. Ensure the secret \
             being sent is the value. (the secret is wrong: write its value, not its id, into \
             client_secret_file)"
        );
        let machine = r#"{"error":"invalid_request","error_description":"Identity not found"}"#;
        assert_eq!(
            told(machine).unwrap(),
            "invalid_request: Identity not found"
        );
        let fabric = r#"{"error":{"correlationId":"7f","code":"ManagedIdentityNotFound","message":"Managed identity not found."}}"#;
        assert_eq!(
            told(fabric).unwrap(),
            "ManagedIdentityNotFound: Managed identity not found."
        );
    }

    #[test]
    fn what_is_told_stays_the_same_while_the_reason_does() {
        let refusal = |trace| {
            format!(
                r#"{{"error":"invalid_client","error_description":"AADSTS7000222: Expired. Trace ID: {trace} Correlation ID: {trace} Timestamp: {trace}"}}"#
            )
        };
        assert_eq!(told(&refusal(1)), told(&refusal(2)));
        assert!(told(&refusal(1)).unwrap().contains("Expired. ("));
    }

    #[test]
    fn a_code_is_not_taken_for_a_shorter_one() {
        assert!(has_word("AADSTS90002: Tenant", "AADSTS90002"));
        assert!(has_word("see AADSTS90002", "AADSTS90002"));
        assert!(!has_word("AADSTS900023: Tenant", "AADSTS90002"));
    }

    #[test]
    fn what_is_no_refusal_is_none() {
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"error":7}"#,
            r#"{"error":{}}"#,
        ] {
            assert_eq!(told(body), None, "{body}");
        }
    }

    #[test]
    fn a_quoted_secret_is_blanked() {
        for quoted in [
            "hunter2+/",
            "hunter2%2B%2F",
            r"hunter2+\/",
            r"hunter\u0032+/",
        ] {
            let body = format!(r#"{{"error":"a {quoted}","error_description":"b {quoted} c"}}"#);
            assert_eq!(told(&body).unwrap(), "a ***: b *** c");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_said_becomes_one_short_line(code in "\\PC{0,200}", text in "(?s).{0,900}") {
            let body = serde_json::json!({"error": code, "error_description": text});
            let told = told(&body.to_string()).unwrap();
            prop_assert!(!told.contains(char::is_control));
            prop_assert!(told.chars().count() <= MAX_CODE + MAX_DESCRIPTION + 200);
        }
    }
}
