//! Who may ask the simulated gateway for what.
//!
//! Responsible for the role of whoever sends a request: by bearer token first, then by client
//! certificate, then by the word of a trusted front. It may not answer, and it looks into no
//! certificate: that the client has its key was proven in the handshake.
//! Tokens and certificates are kept as digests only, so nothing here can give one away.

use std::collections::HashMap;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use serde_json::{Value, json};

use super::request::Operation;

/// How a trusted front names the role of its client.
const FRONT_HEADER: &str = "x-role";

/// Who is let in, and as what.
///
/// The default is an unsecured cluster: everybody is an administrator of it, whatever is admitted
/// here besides.
#[derive(Clone, Debug, Default)]
pub struct Access {
    secured: bool,
    certificates: HashMap<Fingerprint, Role>,
    tokens: HashMap<Fingerprint, Role>,
    trusts_front: bool,
    entra: Option<EntraMetadata>,
}

/// What somebody who is let in may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Read.
    User,
    /// Read and change.
    Admin,
}

/// Where clients of a cluster get their tokens: what `GET /$/GetAadMetadata` tells everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntraMetadata {
    /// Base address of the sign-in service.
    pub login: String,
    /// Address of the directory there.
    pub authority: String,
    /// Directory.
    pub tenant: String,
    /// The application that stands for the cluster.
    pub cluster: String,
    /// The application that interactive tools sign in as.
    pub client: String,
    /// Where the sign-in page of interactive tools leads back to.
    pub redirect: String,
}

impl Access {
    /// A cluster that lets nobody in yet.
    pub fn secured() -> Self {
        Self {
            secured: true,
            ..Self::default()
        }
    }

    /// Lets in who has the key of this certificate (DER), from the next request on.
    pub fn admit_certificate(&mut self, certificate: &[u8], role: Role) {
        self.certificates.insert(Fingerprint::of(certificate), role);
    }

    /// No longer knows this certificate (DER), not even on connections that began with it.
    pub fn revoke_certificate(&mut self, certificate: &[u8]) {
        self.certificates.remove(&Fingerprint::of(certificate));
    }

    /// Lets in who sends this bearer token, from the next request on.
    pub fn admit_token(&mut self, token: &str, role: Role) {
        self.tokens.insert(Fingerprint::of(token.as_bytes()), role);
    }

    /// No longer takes this token.
    pub fn revoke_token(&mut self, token: &str) {
        self.tokens.remove(&Fingerprint::of(token.as_bytes()));
    }

    /// Believes the header `X-Role: None|User|Admin`: a proxy before this gateway has checked the
    /// client. Whoever can reach the port besides that proxy can be anybody then.
    pub fn trust_front(&mut self) {
        self.trusts_front = true;
    }

    /// Tells clients where to get tokens.
    pub fn announce(&mut self, entra: EntraMetadata) {
        self.entra = Some(entra);
    }

    /// The role in which a request is answered; `None` keeps its sender out.
    pub(super) fn role(&self, client: &ClientIdentity, operation: Operation) -> Option<Role> {
        if !self.secured {
            return Some(Role::Admin);
        }
        let by = |known: &HashMap<Fingerprint, Role>, it: Option<_>| known.get(&it?).copied();
        // A token that is not valid leaves the question to the certificate.
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

/// What the sender of a request shows of itself.
#[derive(Debug)]
pub(super) struct ClientIdentity {
    certificate: Option<Fingerprint>,
    token: Option<Fingerprint>,
    front: Option<Role>,
}

impl ClientIdentity {
    /// Of a request with these headers, on a connection with this certificate.
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

/// The scheme is written in any case; its token is all that follows.
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
        let nobody = client(&[("x-role", "None")], None);
        assert_eq!(access.role(&nobody, READ), Some(Role::Admin));
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
