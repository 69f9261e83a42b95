//! Basic authentication with the users of the web configuration.
//!
//! Passwords are compared with their bcrypt hashes on a blocking thread, one at a time, so that
//! guessing uses at most one processor; the [`LoginQueue`] determines the order. Outcomes are
//! cached under a keyed hash of name, bcrypt hash and password, so that no password stays in
//! memory and a changed user or hash is authenticated again. Accepted and rejected logins have
//! separate caches, so that guessing does not evict an accepted login.
//!
//! Invariant: the work does not depend on whether a user exists.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::SystemRandom;
use secrecy::{ExposeSecret as _, SecretSlice};
use tokio::task::spawn_blocking;

use super::login_queue::LoginQueue;
use crate::server::network::Network;
use crate::settings::web::{PasswordHash, Users};
use crate::sync::lock;

/// Maximum number of cached outcomes of each kind.
const CACHED_OUTCOMES: usize = 100;

#[derive(Debug)]
pub(super) struct Authenticator {
    key: hmac::Key,
    queue: Arc<LoginQueue>,
    outcomes: Mutex<OutcomeCache>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginOutcome {
    Accepted,
    Rejected,
    /// Too many logins wait for a comparison.
    QueueFull,
}

/// Keyed hash of the user name, whether the user exists, the bcrypt hash and the password.
type LoginFingerprint = [u8; 32];

#[derive(Debug, Default)]
struct OutcomeCache {
    accepted: HashSet<LoginFingerprint>,
    rejected: HashSet<LoginFingerprint>,
}

#[derive(Debug)]
struct BasicCredentials {
    user: String,
    password: SecretSlice<u8>,
}

impl Authenticator {
    /// At most `capacity` logins wait for a comparison.
    pub(super) fn new(capacity: usize) -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Self {
            key: key.expect("the operating system has randomness once it runs programs"),
            queue: LoginQueue::new(capacity),
            outcomes: Mutex::default(),
        }
    }

    /// Checks the `Authorization` header of a client in `network` against `users`.
    pub(super) async fn authenticate(
        self: &Arc<Self>,
        users: &Users,
        header: Option<&HeaderValue>,
        network: Network,
    ) -> LoginOutcome {
        let Some(credentials) = header.and_then(BasicCredentials::parse) else {
            return LoginOutcome::Rejected;
        };
        let Some((hash, is_user)) = self.hash_to_compare(users, &credentials.user) else {
            return LoginOutcome::Rejected;
        };
        let fingerprint = self.fingerprint(&credentials, hash, is_user);
        if let Some(outcome) = self.cached(&fingerprint) {
            return outcome;
        }
        let permit = self.queue.permit(network, tag(&fingerprint)).await;
        let Some(permit) = permit else {
            return LoginOutcome::QueueFull;
        };
        // A login with the same credentials can have been compared in the meantime.
        if let Some(outcome) = self.cached(&fingerprint) {
            return outcome;
        }
        let (this, hash) = (Arc::clone(self), hash.clone());
        let comparison = spawn_blocking(move || {
            let accepted = hash.matches(credentials.password.expose_secret()) && is_user;
            this.lock().insert(fingerprint, accepted);
            // After the insertion, because the next login looks into the cache first; and here, so
            // that the permit is held until the comparison ends even if this login is cancelled.
            drop(permit);
            accepted
        });
        LoginOutcome::of(comparison.await.unwrap_or(false))
    }

    /// The hash to compare with, and whether it belongs to the user. An unknown name gets the hash
    /// of another user, always the same one, so that response times do not disclose user names.
    fn hash_to_compare<'a>(
        &self,
        users: &'a Users,
        name: &str,
    ) -> Option<(&'a PasswordHash, bool)> {
        let tag = hmac::sign(&self.key, name.as_bytes());
        let number = tag.as_ref().first_chunk().copied();
        let number = u64::from_be_bytes(number.unwrap_or_default());
        let decoy = number.checked_rem(users.len() as u64)?;
        let decoy = users.values().nth(usize::try_from(decoy).ok()?)?;
        match users.get(name) {
            Some(hash) => Some((hash, true)),
            None => Some((decoy, false)),
        }
    }

    /// Includes `is_user`, because an unknown name can become a user with the hash that was its
    /// decoy.
    fn fingerprint(
        &self,
        credentials: &BasicCredentials,
        hash: &PasswordHash,
        is_user: bool,
    ) -> LoginFingerprint {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&[u8::from(is_user)]);
        let password = credentials.password.expose_secret();
        for part in [credentials.user.as_bytes(), hash.as_bytes(), password] {
            // The length prefix separates the parts; see CVE-2022-46146.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        LoginFingerprint::try_from(tag.as_ref()).expect("SHA-256 has 32 bytes")
    }

    fn cached(&self, fingerprint: &LoginFingerprint) -> Option<LoginOutcome> {
        self.lock().get(fingerprint).map(LoginOutcome::of)
    }

    fn lock(&self) -> MutexGuard<'_, OutcomeCache> {
        lock(&self.outcomes)
    }
}

/// The first 64 bits of the fingerprint, which clients cannot choose because its hash is keyed.
fn tag(fingerprint: &LoginFingerprint) -> u64 {
    let first = fingerprint.first_chunk().copied();
    u64::from_be_bytes(first.unwrap_or_default())
}

impl LoginOutcome {
    fn of(accepted: bool) -> Self {
        if accepted {
            Self::Accepted
        } else {
            Self::Rejected
        }
    }
}

impl OutcomeCache {
    fn get(&self, fingerprint: &LoginFingerprint) -> Option<bool> {
        let accepted = self.accepted.contains(fingerprint);
        (accepted || self.rejected.contains(fingerprint)).then_some(accepted)
    }

    fn insert(&mut self, fingerprint: LoginFingerprint, accepted: bool) {
        let outcomes = if accepted {
            &mut self.accepted
        } else {
            &mut self.rejected
        };
        // Evicts an arbitrary one: the iteration order of a set differs between processes.
        if outcomes.len() >= CACHED_OUTCOMES
            && let Some(evicted) = outcomes.iter().next().copied()
        {
            outcomes.remove(&evicted);
        }
        outcomes.insert(fingerprint);
    }
}

impl BasicCredentials {
    /// `None` unless the scheme is Basic with a name and a password.
    fn parse(header: &HeaderValue) -> Option<Self> {
        let (scheme, encoded) = header.as_bytes().split_at_checked("Basic ".len())?;
        if !scheme.eq_ignore_ascii_case(b"Basic ") {
            return None;
        }
        let decoded = SecretSlice::from(STANDARD.decode(encoded).ok()?);
        let mut parts = decoded.expose_secret().splitn(2, |byte| *byte == b':');
        let (user, password) = (parts.next()?, parts.next()?);
        Some(Self {
            user: str::from_utf8(user).ok()?.to_owned(),
            password: SecretSlice::from(password.to_vec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    use tokio::task::JoinSet;

    use super::super::login_queue::ComparisonPermit;
    use super::*;
    use crate::settings::web::WebConfig;

    const PASSWORD: &str = "hunter2";
    const CAPACITY: usize = 16;

    fn network() -> Network {
        IpAddr::from([192, 0, 2, 1]).into()
    }

    /// While the permit is held, every comparison waits.
    async fn comparison_permit(authenticator: &Authenticator) -> ComparisonPermit {
        authenticator.queue.permit(network(), 0).await.unwrap()
    }

    fn users(costs: &[u32]) -> Users {
        let lines = costs.iter().map(|cost| {
            let hash = bcrypt::hash(PASSWORD, *cost).unwrap();
            format!("  user{cost}: {hash}\n")
        });
        let text = format!("basic_auth_users:\n{}", lines.collect::<String>());
        let origin = std::path::Path::new("web.yml");
        WebConfig::parse(&text, origin).unwrap().users
    }

    fn header(user: &str, password: &str) -> HeaderValue {
        let encoded = STANDARD.encode(format!("{user}:{password}"));
        HeaderValue::from_str(&format!("Basic {encoded}")).unwrap()
    }

    fn cached(authenticator: &Authenticator) -> (usize, usize) {
        let outcomes = authenticator.lock();
        (outcomes.accepted.len(), outcomes.rejected.len())
    }

    #[test]
    fn unknown_name_is_always_compared_with_the_hash_of_the_same_user() {
        let (authenticator, users) = (Authenticator::new(CAPACITY), users(&[4, 5, 6]));
        let mut decoys = BTreeSet::new();
        for number in 0..100 {
            let name = format!("unknown{number}");
            let (first, is_user) = authenticator.hash_to_compare(&users, &name).unwrap();
            assert!(!is_user);
            let (second, _) = authenticator.hash_to_compare(&users, &name).unwrap();
            assert_eq!(first.as_bytes(), second.as_bytes());
            decoys.insert(first.as_bytes().to_vec());
        }
        assert_eq!(decoys.len(), users.len(), "names lead to every user");
        for (name, hash) in &users {
            let (found, is_user) = authenticator.hash_to_compare(&users, name).unwrap();
            assert!(is_user && found.as_bytes() == hash.as_bytes());
        }
    }

    #[tokio::test]
    async fn unknown_name_with_the_password_of_the_decoy_is_rejected() {
        let (authenticator, users) = (Arc::new(Authenticator::new(CAPACITY)), users(&[4]));
        let unknown = header("unknown", PASSWORD);
        assert_eq!(
            authenticator
                .authenticate(&users, Some(&unknown), network())
                .await,
            LoginOutcome::Rejected
        );
        assert_eq!(
            cached(&authenticator),
            (0, 1),
            "it was compared, and the outcome is cached"
        );
        assert_eq!(
            authenticator
                .authenticate(&users, Some(&unknown), network())
                .await,
            LoginOutcome::Rejected
        );
        let right = header("user4", PASSWORD);
        assert_eq!(
            authenticator
                .authenticate(&users, Some(&right), network())
                .await,
            LoginOutcome::Accepted
        );
        assert_eq!(cached(&authenticator), (1, 1));
    }

    #[tokio::test]
    async fn guessing_evicts_no_accepted_login_and_its_memory_is_bounded() {
        let (authenticator, users) = (Arc::new(Authenticator::new(CAPACITY)), users(&[4]));
        let right = header("user4", PASSWORD);
        assert_eq!(
            authenticator
                .authenticate(&users, Some(&right), network())
                .await,
            LoginOutcome::Accepted
        );
        for number in 0..CACHED_OUTCOMES + 20 {
            let wrong = header("user4", &number.to_string());
            assert_eq!(
                authenticator
                    .authenticate(&users, Some(&wrong), network())
                    .await,
                LoginOutcome::Rejected
            );
        }
        assert_eq!(cached(&authenticator), (1, CACHED_OUTCOMES));
        // Without a permit for a comparison, only the cache can answer.
        let _permit = comparison_permit(&authenticator).await;
        assert_eq!(
            authenticator
                .authenticate(&users, Some(&right), network())
                .await,
            LoginOutcome::Accepted
        );
    }

    #[tokio::test]
    async fn logins_that_wait_with_the_same_credentials_share_one_comparison() {
        let (authenticator, users) = (
            Arc::new(Authenticator::new(CAPACITY)),
            Arc::new(users(&[4])),
        );
        let permit = comparison_permit(&authenticator).await;
        let wrong = header("user4", "wrong");
        let waiting: Vec<_> = (0..CAPACITY)
            .map(|_| {
                let (authenticator, users) = (Arc::clone(&authenticator), Arc::clone(&users));
                let wrong = wrong.clone();
                tokio::spawn(async move {
                    authenticator
                        .authenticate(&users, Some(&wrong), network())
                        .await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        // The opposite of the outcome of a comparison, so that a comparison would show.
        let credentials = BasicCredentials::parse(&wrong).unwrap();
        let (hash, is_user) = authenticator.hash_to_compare(&users, "user4").unwrap();
        let fingerprint = authenticator.fingerprint(&credentials, hash, is_user);
        authenticator.lock().insert(fingerprint, true);
        drop(permit);
        for one in waiting {
            assert_eq!(one.await.unwrap(), LoginOutcome::Accepted, "compared again");
        }
    }

    #[tokio::test]
    async fn cached_outcome_ends_with_its_user() {
        let (authenticator, before) = (Arc::new(Authenticator::new(CAPACITY)), users(&[4]));
        let hash = before.values().next().unwrap().clone();
        let renamed = Users::from([("alice".to_owned(), hash)]);
        let [old, new] = ["user4", "alice"].map(|name| header(name, PASSWORD));
        // Both names get the same hash: one as the user, the other as the decoy.
        for (users, accepted, rejected) in [
            (&before, &old, &new),
            (&renamed, &new, &old),
            (&before, &old, &new),
        ] {
            assert_eq!(
                authenticator
                    .authenticate(users, Some(accepted), network())
                    .await,
                LoginOutcome::Accepted
            );
            assert_eq!(
                authenticator
                    .authenticate(users, Some(rejected), network())
                    .await,
                LoginOutcome::Rejected
            );
        }
    }

    #[tokio::test]
    async fn login_is_rejected_when_the_queue_is_full_unless_its_outcome_is_cached() {
        let (authenticator, users) = (
            Arc::new(Authenticator::new(CAPACITY)),
            Arc::new(users(&[4])),
        );
        let known = header("user4", PASSWORD);
        assert_eq!(
            authenticator
                .authenticate(&users, Some(&known), network())
                .await,
            LoginOutcome::Accepted
        );
        let permit = comparison_permit(&authenticator).await;
        let mut waiting = JoinSet::new();
        for number in 0..=CAPACITY {
            let (authenticator, users) = (Arc::clone(&authenticator), Arc::clone(&users));
            let guess = header("user4", &number.to_string());
            waiting.spawn(async move {
                authenticator
                    .authenticate(&users, Some(&guess), network())
                    .await
            });
        }
        let surplus = waiting.join_next().await.unwrap().unwrap();
        assert_eq!(surplus, LoginOutcome::QueueFull);
        let outcome = authenticator
            .authenticate(&users, Some(&known), network())
            .await;
        assert_eq!(outcome, LoginOutcome::Accepted);
        drop(permit);
        let outcomes = waiting.join_all().await;
        assert_eq!(outcomes, [LoginOutcome::Rejected; CAPACITY]);
    }

    #[test]
    fn cached_outcomes_of_each_kind_are_bounded() {
        let mut outcomes = OutcomeCache::default();
        for number in 0..1000_u64 {
            let mut fingerprint = LoginFingerprint::default();
            fingerprint[..8].copy_from_slice(&number.to_be_bytes());
            outcomes.insert(fingerprint, number % 2 == 0);
            assert_eq!(outcomes.get(&fingerprint), Some(number % 2 == 0));
        }
        assert_eq!(
            (outcomes.accepted.len(), outcomes.rejected.len()),
            (CACHED_OUTCOMES, CACHED_OUTCOMES)
        );
    }

    #[test]
    fn debug_output_contains_no_secret() {
        let (authenticator, users) = (Authenticator::new(CAPACITY), users(&[4]));
        let credentials = BasicCredentials::parse(&header("user4", PASSWORD)).unwrap();
        let printed = format!("{authenticator:?} {users:?} {credentials:?}");
        assert!(
            !printed.contains(PASSWORD) && !printed.contains("$2b$"),
            "{printed}"
        );
    }
}
