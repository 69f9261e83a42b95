//! Who may come in, by name and password.
//!
//! A password is compared with its bcrypt hash off the runtime's threads, one at a time, so that
//! guessing costs at most one processor; the [`Queue`] decides whose turn it is. Verdicts are kept
//! under a keyed hash of name, hash and password, so that no
//! password stays in memory and a changed hash or user is judged anew. Good and bad verdicts are
//! kept apart: guessing cannot push out who has come in before.
//!
//! Invariant: whether a name is known makes no difference to the work that is done.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::SystemRandom;
use secrecy::{ExposeSecret as _, SecretSlice};
use tokio::task::spawn_blocking;

use super::queue::Queue;
use crate::server::network::Network;
use crate::settings::web::{PasswordHash, Users};

/// The most verdicts of each kind that are kept.
const VERDICTS: usize = 100;

/// The verdicts so far.
#[derive(Debug)]
pub(super) struct Logins {
    key: hmac::Key,
    queue: Arc<Queue>,
    verdicts: Mutex<Verdicts>,
}

/// Whether somebody may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    LetIn,
    Refused,
    /// Too many others wait to be judged.
    Busy,
}

/// Name, whether it is a user's, hash and password under a key of this process.
type Fingerprint = [u8; 32];

#[derive(Debug, Default)]
struct Verdicts {
    good: HashSet<Fingerprint>,
    bad: HashSet<Fingerprint>,
}

/// What a client says of itself.
#[derive(Debug)]
struct Credentials {
    user: String,
    password: SecretSlice<u8>,
}

impl Logins {
    /// At most `waiting` logins wait for their comparison.
    pub(super) fn new(waiting: usize) -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Self {
            key: key.expect("the operating system has randomness once it runs programs"),
            queue: Queue::new(waiting),
            verdicts: Mutex::default(),
        }
    }

    /// Whether the header of a client in `network` names one of `users`, and its password.
    pub(super) async fn judge(
        self: &Arc<Self>,
        users: &Users,
        header: Option<&HeaderValue>,
        network: Network,
    ) -> Verdict {
        let Some(credentials) = header.and_then(Credentials::parse) else {
            return Verdict::Refused;
        };
        let Some((hash, is_user)) = self.hash(users, &credentials.user) else {
            return Verdict::Refused;
        };
        let fingerprint = self.fingerprint(&credentials, hash, is_user);
        if let Some(verdict) = self.verdict(&fingerprint) {
            return verdict;
        }
        let Some(turn) = self.queue.turn(network, tag(&fingerprint)).await else {
            return Verdict::Busy;
        };
        // Who has waited behind the same credentials finds the verdict.
        if let Some(verdict) = self.verdict(&fingerprint) {
            return verdict;
        }
        let (logins, hash) = (Arc::clone(self), hash.clone());
        let compared = spawn_blocking(move || {
            let good = hash.matches(credentials.password.expose_secret()) && is_user;
            logins.lock().keep(fingerprint, good);
            // Not before: who waits looks for the verdict first. It is kept, and the work is
            // counted, even when nobody waits for it any more.
            drop(turn);
            good
        });
        Verdict::of(compared.await.unwrap_or(false))
    }

    /// The hash to compare with, and whether it is that of the user. Who is unknown gets that
    /// of a user whom the name always leads to, so that it takes as long as with a known name.
    fn hash<'a>(&self, users: &'a Users, name: &str) -> Option<(&'a PasswordHash, bool)> {
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

    /// Of who is no user the hash is that of another, so that it does not tell them apart.
    fn fingerprint(
        &self,
        credentials: &Credentials,
        hash: &PasswordHash,
        is_user: bool,
    ) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&[u8::from(is_user)]);
        let password = credentials.password.expose_secret();
        for part in [credentials.user.as_bytes(), hash.as_bytes(), password] {
            // The length keeps what ends one part from beginning the next.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        Fingerprint::try_from(tag.as_ref()).expect("SHA-256 has 32 bytes")
    }

    fn verdict(&self, fingerprint: &Fingerprint) -> Option<Verdict> {
        self.lock().of(fingerprint).map(Verdict::of)
    }

    fn lock(&self) -> MutexGuard<'_, Verdicts> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first 64 bits of the fingerprint. Clients cannot choose them, because the hash is keyed.
fn tag(fingerprint: &Fingerprint) -> u64 {
    let first = fingerprint.first_chunk().copied();
    u64::from_be_bytes(first.unwrap_or_default())
}

impl Verdict {
    fn of(good: bool) -> Self {
        if good { Self::LetIn } else { Self::Refused }
    }
}

impl Verdicts {
    fn of(&self, fingerprint: &Fingerprint) -> Option<bool> {
        let good = self.good.contains(fingerprint);
        (good || self.bad.contains(fingerprint)).then_some(good)
    }

    fn keep(&mut self, fingerprint: Fingerprint, good: bool) {
        let kept = if good { &mut self.good } else { &mut self.bad };
        // Any one will do; the order of a set is another in every process.
        if kept.len() >= VERDICTS
            && let Some(one) = kept.iter().next().copied()
        {
            kept.remove(&one);
        }
        kept.insert(fingerprint);
    }
}

impl Credentials {
    /// `None` for anything but the scheme Basic with a name and a password.
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

    use super::super::queue::Turn;
    use super::*;
    use crate::settings::web::WebConfig;

    const PASSWORD: &str = "hunter2";
    const WAITING: usize = 16;

    fn network() -> Network {
        IpAddr::from([192, 0, 2, 1]).into()
    }

    /// Keeps every other login waiting.
    async fn taken(logins: &Logins) -> Turn {
        logins.queue.turn(network(), 0).await.unwrap()
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

    fn kept(logins: &Logins) -> (usize, usize) {
        let verdicts = logins.lock();
        (verdicts.good.len(), verdicts.bad.len())
    }

    #[test]
    fn who_is_unknown_is_compared_with_the_hash_of_one_and_the_same_user() {
        let (logins, users) = (Logins::new(WAITING), users(&[4, 5, 6]));
        let mut decoys = BTreeSet::new();
        for number in 0..100 {
            let name = format!("nobody{number}");
            let (first, is_user) = logins.hash(&users, &name).unwrap();
            assert!(!is_user);
            let (second, _) = logins.hash(&users, &name).unwrap();
            assert_eq!(first.as_bytes(), second.as_bytes());
            decoys.insert(first.as_bytes().to_vec());
        }
        assert_eq!(decoys.len(), users.len(), "names lead to every user");
        for (name, hash) in &users {
            let (found, is_user) = logins.hash(&users, name).unwrap();
            assert!(is_user && found.as_bytes() == hash.as_bytes());
        }
    }

    #[tokio::test]
    async fn the_password_of_the_decoy_lets_nobody_unknown_in() {
        let (logins, users) = (Arc::new(Logins::new(WAITING)), users(&[4]));
        let stranger = header("nobody", PASSWORD);
        assert_eq!(
            logins.judge(&users, Some(&stranger), network()).await,
            Verdict::Refused
        );
        assert_eq!(
            kept(&logins),
            (0, 1),
            "it was compared, and the verdict kept"
        );
        assert_eq!(
            logins.judge(&users, Some(&stranger), network()).await,
            Verdict::Refused
        );
        let right = header("user4", PASSWORD);
        assert_eq!(
            logins.judge(&users, Some(&right), network()).await,
            Verdict::LetIn
        );
        assert_eq!(kept(&logins), (1, 1));
    }

    #[tokio::test]
    async fn guessing_pushes_out_nobody_who_has_come_in_and_fills_no_memory() {
        let (logins, users) = (Arc::new(Logins::new(WAITING)), users(&[4]));
        let right = header("user4", PASSWORD);
        assert_eq!(
            logins.judge(&users, Some(&right), network()).await,
            Verdict::LetIn
        );
        for number in 0..VERDICTS + 20 {
            let wrong = header("user4", &number.to_string());
            assert_eq!(
                logins.judge(&users, Some(&wrong), network()).await,
                Verdict::Refused
            );
        }
        assert_eq!(kept(&logins), (1, VERDICTS));
        // With every comparison taken, only a kept verdict can answer.
        let _taken = taken(&logins).await;
        assert_eq!(
            logins.judge(&users, Some(&right), network()).await,
            Verdict::LetIn
        );
    }

    #[tokio::test]
    async fn who_waits_with_the_same_credentials_takes_the_verdict_of_the_first() {
        let (logins, users) = (Arc::new(Logins::new(WAITING)), Arc::new(users(&[4])));
        let taken = taken(&logins).await;
        let wrong = header("user4", "wrong");
        let waiting: Vec<_> = (0..WAITING)
            .map(|_| {
                let (logins, users) = (Arc::clone(&logins), Arc::clone(&users));
                let wrong = wrong.clone();
                tokio::spawn(async move { logins.judge(&users, Some(&wrong), network()).await })
            })
            .collect();
        tokio::task::yield_now().await;
        // A verdict that no comparison would come to, so that one would show.
        let credentials = Credentials::parse(&wrong).unwrap();
        let (hash, is_user) = logins.hash(&users, "user4").unwrap();
        let fingerprint = logins.fingerprint(&credentials, hash, is_user);
        logins.lock().keep(fingerprint, true);
        drop(taken);
        for one in waiting {
            assert_eq!(one.await.unwrap(), Verdict::LetIn, "compared again");
        }
    }

    #[tokio::test]
    async fn a_verdict_lasts_no_longer_than_the_user_it_is_of() {
        let (logins, before) = (Arc::new(Logins::new(WAITING)), users(&[4]));
        let hash = before.values().next().unwrap().clone();
        let renamed = Users::from([("alice".to_owned(), hash)]);
        let [old, new] = ["user4", "alice"].map(|name| header(name, PASSWORD));
        // Both come with the same hash: the one of the user, the other of the decoy.
        for (users, let_in, refused) in [
            (&before, &old, &new),
            (&renamed, &new, &old),
            (&before, &old, &new),
        ] {
            assert_eq!(
                logins.judge(users, Some(let_in), network()).await,
                Verdict::LetIn
            );
            assert_eq!(
                logins.judge(users, Some(refused), network()).await,
                Verdict::Refused
            );
        }
    }

    #[tokio::test]
    async fn where_many_wait_others_are_told_at_once_and_who_is_known_comes_in() {
        let (logins, users) = (Arc::new(Logins::new(WAITING)), Arc::new(users(&[4])));
        let known = header("user4", PASSWORD);
        assert_eq!(
            logins.judge(&users, Some(&known), network()).await,
            Verdict::LetIn
        );
        let taken = taken(&logins).await;
        let mut waiting = JoinSet::new();
        for number in 0..=WAITING {
            let (logins, users) = (Arc::clone(&logins), Arc::clone(&users));
            let guess = header("user4", &number.to_string());
            waiting.spawn(async move { logins.judge(&users, Some(&guess), network()).await });
        }
        let surplus = waiting.join_next().await.unwrap().unwrap();
        assert_eq!(surplus, Verdict::Busy);
        let verdict = logins.judge(&users, Some(&known), network()).await;
        assert_eq!(verdict, Verdict::LetIn);
        drop(taken);
        let verdicts = waiting.join_all().await;
        assert_eq!(verdicts, [Verdict::Refused; WAITING]);
    }

    #[test]
    fn verdicts_of_each_kind_are_bounded() {
        let mut verdicts = Verdicts::default();
        for number in 0..1000_u64 {
            let mut fingerprint = Fingerprint::default();
            fingerprint[..8].copy_from_slice(&number.to_be_bytes());
            verdicts.keep(fingerprint, number % 2 == 0);
            assert_eq!(verdicts.of(&fingerprint), Some(number % 2 == 0));
        }
        assert_eq!(
            (verdicts.good.len(), verdicts.bad.len()),
            (VERDICTS, VERDICTS)
        );
    }

    #[test]
    fn no_secret_is_in_what_is_printed_for_debugging() {
        let (logins, users) = (Logins::new(WAITING), users(&[4]));
        let credentials = Credentials::parse(&header("user4", PASSWORD)).unwrap();
        let printed = format!("{logins:?} {users:?} {credentials:?}");
        assert!(
            !printed.contains(PASSWORD) && !printed.contains("$2b$"),
            "{printed}"
        );
    }
}
