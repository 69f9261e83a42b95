//! The error response of a token endpoint, sanitized for messages, and its solution.
//!
//! The text comes from the network: it is limited to one short line without control characters and
//! without the secret that was sent. Only the solution depends on the error codes of Entra ID,
//! because Microsoft may change them.

use std::fmt;

use serde_json::Value;
use url::form_urlencoded::byte_serialize;

use crate::gateway::decode;
use crate::gateway::redact;

/// Limits in characters.
const MAX_CODE: usize = 64;
const MAX_DESCRIPTION: usize = 300;

/// An error response (RFC 6749, section 5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct ErrorResponse {
    code: String,
    /// Its first line.
    description: String,
}

impl ErrorResponse {
    /// Parses `{"error":"…","error_description":"…"}` of Entra ID and virtual machines, and
    /// `{"error":{"code":"…","message":"…"}}` of Service Fabric; masks `secret`.
    pub(super) fn parse(body: &[u8], secret: &str) -> Option<Self> {
        let document: Value = serde_json::from_slice(decode::without_padding(body)).ok()?;
        let error = document.get("error")?;
        let (code, description) = match error {
            Value::Object(error) => (error.get("code")?, error.get("message")),
            code => (code, document.get("error_description")),
        };
        let description = description.and_then(Value::as_str).unwrap_or_default();
        Some(Self {
            code: sanitized(code.as_str()?, MAX_CODE, secret),
            description: sanitized(description, MAX_DESCRIPTION, secret),
        })
    }

    fn solution(&self) -> Option<&'static str> {
        let matches = |(code, _): &&(&str, &str)| contains_code(&self.description, code);
        SOLUTIONS
            .iter()
            .find(matches)
            .map(|(_, solution)| *solution)
    }
}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if !self.description.is_empty() {
            write!(f, ": {}", self.description)?;
        }
        match self.solution() {
            Some(solution) => write!(f, " ({solution})"),
            None => Ok(()),
        }
    }
}

/// Error codes of <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>.
const SOLUTIONS: [(&str, &str); 9] = [
    (
        "AADSTS7000215",
        "the secret is wrong: write its value, not its id, to client_secret_file",
    ),
    (
        "AADSTS7000222",
        "the secret has expired: create a new one and write it to client_secret_file",
    ),
    (
        "AADSTS700016",
        "the directory has no such application: check client_id and tenant_id",
    ),
    (
        "AADSTS7000112",
        "the exporter's application is disabled: enable it in the directory",
    ),
    ("AADSTS90002", UNKNOWN_TENANT),
    ("AADSTS900023", UNKNOWN_TENANT),
    (
        "AADSTS500011",
        "the directory has no such application for the cluster: check cluster_application_id and \
         tenant_id",
    ),
    ("AADSTS50105", NO_ROLE),
    ("AADSTS501051", NO_ROLE),
];

const UNKNOWN_TENANT: &str = "the directory does not exist: check tenant_id and authority";

const NO_ROLE: &str = "assign the app role `User` of the cluster application to the exporter's \
                       service principal";

/// Whether `text` contains `code`, and not only as the prefix of a longer code.
fn contains_code(text: &str, code: &str) -> bool {
    text.match_indices(code).any(|(at, _)| {
        let rest = text.get(at + code.len()..).unwrap_or_default();
        !rest.starts_with(|c: char| c.is_ascii_digit())
    })
}

fn sanitized(text: &str, limit: usize, secret: &str) -> String {
    let mut text = text.to_owned();
    if !secret.is_empty() {
        let encoded: String = byte_serialize(secret.as_bytes()).collect();
        text = text.replace(secret, "***").replace(&encoded, "***");
    }
    let line = text.trim().lines().next().unwrap_or_default();
    // The rest differs in every response.
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

    fn message(body: &str) -> Option<String> {
        ErrorResponse::parse(body.as_bytes(), "hunter2+/").map(|response| response.to_string())
    }

    #[test]
    fn message_includes_the_solution() {
        let entra = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided. Ensure the secret being sent is the value.\r\nTrace ID: 1\r\nTimestamp: 2026","error_codes":[7000215]}"#;
        assert_eq!(
            message(entra).unwrap(),
            "invalid_client: AADSTS7000215: Invalid client secret provided. Ensure the secret \
             being sent is the value. (the secret is wrong: write its value, not its id, to \
             client_secret_file)"
        );
        let machine = r#"{"error":"invalid_request","error_description":"Identity not found"}"#;
        assert_eq!(
            message(machine).unwrap(),
            "invalid_request: Identity not found"
        );
        let fabric = r#"{"error":{"correlationId":"7f","code":"ManagedIdentityNotFound","message":"Managed identity not found."}}"#;
        assert_eq!(
            message(fabric).unwrap(),
            "ManagedIdentityNotFound: Managed identity not found."
        );
    }

    #[test]
    fn message_does_not_depend_on_the_trace_id() {
        let body = |trace| {
            format!(
                r#"{{"error":"invalid_client","error_description":"AADSTS7000222: Expired. Trace ID: {trace} Correlation ID: {trace} Timestamp: {trace}"}}"#
            )
        };
        assert_eq!(message(&body(1)), message(&body(2)));
        assert!(message(&body(1)).unwrap().contains("Expired. ("));
    }

    #[test]
    fn longer_code_does_not_match_a_shorter_one() {
        assert!(contains_code("AADSTS90002: Tenant", "AADSTS90002"));
        assert!(contains_code("see AADSTS90002", "AADSTS90002"));
        assert!(!contains_code("AADSTS900023: Tenant", "AADSTS90002"));
    }

    #[test]
    fn other_bodies_are_no_error_response() {
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"error":7}"#,
            r#"{"error":{}}"#,
        ] {
            assert_eq!(message(body), None, "{body}");
        }
    }

    #[test]
    fn quoted_secret_is_masked() {
        for quoted in [
            "hunter2+/",
            "hunter2%2B%2F",
            r"hunter2+\/",
            r"hunter\u0032+/",
        ] {
            let body = format!(r#"{{"error":"a {quoted}","error_description":"b {quoted} c"}}"#);
            assert_eq!(message(&body).unwrap(), "a ***: b *** c");
        }
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_short_line(code in "\\PC{0,200}", text in "(?s).{0,900}") {
            let body = serde_json::json!({"error": code, "error_description": text});
            let message = message(&body.to_string()).unwrap();
            prop_assert!(!message.contains(char::is_control));
            prop_assert!(message.chars().count() <= MAX_CODE + MAX_DESCRIPTION + 200);
        }
    }
}
