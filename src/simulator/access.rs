//! Authorization of requests to the simulated gateway.
//!
//! Determines the role of a client from its bearer token, then its client certificate, then the
//! role header of a trusted proxy. Must not render responses or validate certificates: the
//! handshake proves possession of the key. Tokens and certificates are stored as SHA-256 digests
//! only.

use std::collections::HashMap;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use serde_json::{Value, json};

use super::request::Operation;

/// Header in which a trusted proxy sends the role of its client.
const FRONT_HEADER: &str = "x-role";

/// Authorized clients and their roles.
///
/// The default is an unsecured cluster: every client is an administrator, whatever is configured
/// here.
#[derive(Clone, Debug, Default)]
pub struct Access {
    secured: bool,
    certificates: HashMap<Fingerprint, Role>,
    tokens: HashMap<Fingerprint, Role>,
    trusts_front: bool,
    entra: Option<EntraMetadata>,
}

/// Role of an authorized client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Read.
    User,
    /// Read and change.
    Admin,
}

/// Entra ID settings that `GET /$/GetAadMetadata` returns to every client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntraMetadata {
    /// Base address of the login endpoint.
    pub login: String,
    /// Authority: the login endpoint of the tenant.
    pub authority: String,
    /// Tenant id.
    pub tenant: String,
    /// Application id of the cluster.
    pub cluster: String,
    /// Application id of interactive clients.
    pub client: String,
    /// Redirect URI of interactive clients.
    pub redirect: String,
}

impl Access {
    /// A secured cluster without authorized clients.
    pub fn secured() -> Self {
        Self {
            secured: true,
            ..Self::default()
        }
    }

    /// Authorizes clients with this certificate (DER), from the next request on.
    pub fn admit_certificate(&mut self, certificate: &[u8], role: Role) {
        self.certificates.insert(Fingerprint::of(certificate), role);
    }

    /// Revokes this certificate (DER), also on connections that were opened with it.
    pub fn revoke_certificate(&mut self, certificate: &[u8]) {
        self.certificates.remove(&Fingerprint::of(certificate));
    }

    /// Authorizes this bearer token, from the next request on.
    pub fn admit_token(&mut self, token: &str, role: Role) {
        self.tokens.insert(Fingerprint::of(token.as_bytes()), role);
    }

    /// Revokes this token.
    pub fn revoke_token(&mut self, token: &str) {
        self.tokens.remove(&Fingerprint::of(token.as_bytes()));
    }

    /// Trusts the header `X-Role: None|User|Admin` of a proxy that authenticated the client. Any
    /// client that reaches the port without that proxy can then choose its role.
    pub fn trust_front(&mut self) {
        self.trusts_front = true;
    }

    /// Sets the Entra ID settings that clients are offered.
    pub fn announce(&mut self, entra: EntraMetadata) {
        self.entra = Some(entra);
    }

    /// The role of a client for an operation; `None` if it is unauthorized.
    pub(super) fn role(&self, client: &ClientIdentity, operation: Operation) -> Option<Role> {
        if !self.secured {
            return Some(Role::Admin);
        }
        let by = |known: &HashMap<Fingerprint, Role>, it: Option<_>| known.get(&it?).copied();
        // An invalid token falls back to the certificate.
        let token = by(&self.tokens, client.token);
        let certificate = by(&self.certificates, client.certificate);
        let front = client.front.filter(|_| self.trusts_front);
        let known = token.or(certificate).or(front);
        known.or_else(|| (operation == Operation::GetAadMetadata).then_some(Role::User))
    }

    /// The body of `GetAadMetadata`; its inner keys are in lower case.
    pub(super) fn metadata(&self) -> Value {
        let Some(entra) = self.entra.as_ref().filter(|_| self.secured) else {
            return json!({"type": "", "metadata": {}});
        };
        json!({
            "type": "aad",
            "metadata": {
                "login": entra.login,
                "authority": entra.authority,
                "tenant": entra.tenant,
                "cluster": entra.cluster,
                "client": entra.client,
                "redirect": entra.redirect,
            },
        })
    }
}

/// Credentials that came with a request.
#[derive(Debug)]
pub(super) struct ClientIdentity {
    certificate: Option<Fingerprint>,
    token: Option<Fingerprint>,
    front: Option<Role>,
}

impl ClientIdentity {
    /// Reads the credentials from the headers of a request and the client certificate of its
    /// connection.
    pub(super) fn of(headers: &HeaderMap, certificate: Option<Fingerprint>) -> Self {
        let word = |name| headers.get(name)?.to_str().ok();
        let role = |word| match word {
            "User" => Some(Role::User),
            "Admin" => Some(Role::Admin),
            _ => None,
        };
        Self {
            certificate,
            token: word(AUTHORIZATION.as_str()).and_then(bearer),
            front: word(FRONT_HEADER).and_then(role),
        }
    }
}

/// SHA-256 of a certificate or of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; SHA256_OUTPUT_LEN]);

impl Fingerprint {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let digest = digest(&SHA256, bytes);
        let bytes = digest.as_ref().try_into();
        Self(bytes.expect("every SHA-256 digest has this length"))
    }
}

/// The scheme is case-insensitive; the token is the rest of the value.
fn bearer(authorization: &str) -> Option<Fingerprint> {
    let (scheme, token) = authorization.split_once(' ')?;
    let bearer = scheme.eq_ignore_ascii_case("bearer");
    bearer.then(|| Fingerprint::of(token.trim().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Operation = Operation::GetApplicationInfoList;

    fn client(
        headers: &[(&'static str, &'static str)],
        certificate: Option<&[u8]>,
    ) -> ClientIdentity {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        ClientIdentity::of(&map, certificate.map(Fingerprint::of))
    }

    #[test]
    fn an_open_cluster_takes_everybody_for_an_administrator() {
        let access = Access::default();
        let without_role = client(&[("x-role", "None")], None);
        assert_eq!(access.role(&without_role, READ), Some(Role::Admin));
    }

    #[test]
    fn a_token_goes_before_the_certificate_and_a_wrong_one_leaves_it_to_that() {
        let mut access = Access::secured();
        access.admit_token("good", Role::User);
        access.admit_certificate(b"known", Role::Admin);
        let cases = [
            (Some("Bearer good"), None, Some(Role::User)),
            (Some("bearer good"), Some(&b"known"[..]), Some(Role::User)),
            (Some("Bearer bad"), Some(&b"known"[..]), Some(Role::Admin)),
            (Some("Bearer bad"), Some(&b"unknown"[..]), None),
            (Some("Basic good"), None, None),
            (Some("good"), None, None),
            (None, Some(&b"known"[..]), Some(Role::Admin)),
            (None, None, None),
        ];
        for (authorization, certificate, role) in cases {
            let headers = authorization.map(|it| ("authorization", it));
            let client = client(headers.as_slice(), certificate);
            assert_eq!(access.role(&client, READ), role, "{client:?}");
        }
    }

    #[test]
    fn only_a_trusted_front_speaks_for_its_clients() {
        let mut access = Access::secured();
        let words = ["User", "Admin", "None", "admin", "All", ""];
        let asked = |access: &Access| {
            words.map(|word| access.role(&client(&[("x-role", word)], None), READ))
        };
        assert_eq!(asked(&access), [None; 6]);
        access.trust_front();
        let (user, admin) = (Some(Role::User), Some(Role::Admin));
        assert_eq!(asked(&access), [user, admin, None, None, None, None]);
    }

    #[test]
    fn no_token_shows_in_what_is_printed_for_debugging() {
        let mut access = Access::secured();
        access.admit_token("canary", Role::User);
        let client = client(&[("authorization", "Bearer canary")], None);
        assert!(!format!("{access:?}{client:?}").contains("canary"));
    }
}
