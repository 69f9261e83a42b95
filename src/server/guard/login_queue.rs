//! The queue of logins that wait for their password comparison. One comparison runs at a time.
//!
//! Two orders alternate. The first one is round-robin over client networks: a flood of guesses
//! from one address delays logins from other addresses by one or two comparisons. The second one
//! serves the credentials that were first seen earliest: a scraper that was rejected or timed out
//! passes every guess that is newer than its own first attempt. This bounds the delay by a flood
//! from the address of the scraper, as behind a proxy, and by a flood from many addresses.
//!
//! Invariant: while a login waits, a comparison runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

use crate::server::network::Network;
use crate::sync::lock;

/// Number of credentials whose first attempt is remembered: one minute at 4,000 guesses per second.
const REMEMBERED: usize = 1 << 18;

#[derive(Debug)]
pub(super) struct LoginQueue {
    /// Maximum number of waiting logins.
    capacity: usize,
    state: Mutex<QueueState>,
}

/// The permit to run a comparison. On drop, the next login receives it.
#[derive(Debug)]
pub(super) struct ComparisonPermit(Arc<LoginQueue>);

#[derive(Debug, Default)]
struct QueueState {
    comparing: bool,
    /// In the order of arrival.
    waiting: Vec<WaitingLogin>,
    /// The round of the last login that was served round-robin.
    round: u64,
    /// Whether the last login was served round-robin.
    served_round_robin: bool,
    first_seen: FirstSeen,
}

#[derive(Debug)]
struct WaitingLogin {
    network: Network,
    /// A network has at most one login in each round.
    round: u64,
    first_seen: u64,
    permit: oneshot::Sender<ComparisonPermit>,
}

/// The order in which credentials were first seen: a table of fixed size in which newer
/// credentials overwrite older ones.
#[derive(Debug)]
struct FirstSeen {
    next: u64,
    /// Tags and their sequence numbers; the number of a free slot is 0.
    slots: Vec<(u64, u64)>,
}

impl LoginQueue {
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            state: Mutex::default(),
        })
    }

    /// Waits for the permit. `tag` identifies the credentials. `None` if the queue is full.
    pub(super) async fn permit(
        self: &Arc<Self>,
        network: Network,
        tag: u64,
    ) -> Option<ComparisonPermit> {
        let waiting = {
            let mut state = self.lock();
            let first_seen = state.first_seen.number(tag);
            if !state.comparing {
                state.comparing = true;
                return Some(ComparisonPermit(Arc::clone(self)));
            }
            state.admit(network, first_seen, self.capacity)
        };
        waiting.await.ok()
    }

    fn pass_on(self: &Arc<Self>) {
        let next = self.lock().next();
        if let Some(login) = next {
            // If the login is cancelled, this drops the permit, which passes it on.
            drop(login.send(ComparisonPermit(Arc::clone(self))));
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.state)
    }
}

impl Drop for ComparisonPermit {
    fn drop(&mut self) {
        self.0.pass_on();
    }
}

impl QueueState {
    /// Adds a login, and rejects one if the queue is then too long.
    fn admit(
        &mut self,
        network: Network,
        first_seen: u64,
        capacity: usize,
    ) -> oneshot::Receiver<ComparisonPermit> {
        self.waiting.retain(|one| !one.permit.is_closed());
        let same = self.waiting.iter().filter(|one| one.network == network);
        let round = same.map(|one| one.round + 1).max();
        let (permit, receiver) = oneshot::channel();
        self.waiting.push(WaitingLogin {
            network,
            round: round.unwrap_or_default().max(self.round),
            first_seen,
            permit,
        });
        if self.waiting.len() > capacity {
            self.reject_newest_of_largest_network();
        }
        receiver
    }

    /// Of the networks with the most waiting logins, rejects the login that was first seen last.
    fn reject_newest_of_largest_network(&mut self) {
        let mut sizes: HashMap<Network, usize> = HashMap::new();
        for one in &self.waiting {
            *sizes.entry(one.network).or_default() += 1;
        }
        let waiting = self.waiting.iter().enumerate();
        let rejected =
            waiting.max_by_key(|(_, one)| (sizes.get(&one.network).copied(), one.first_seen));
        if let Some((index, _)) = rejected {
            self.waiting.remove(index);
        }
    }

    /// The next login to serve, after a comparison has ended.
    fn next(&mut self) -> Option<oneshot::Sender<ComparisonPermit>> {
        self.waiting.retain(|one| !one.permit.is_closed());
        self.served_round_robin = !self.served_round_robin;
        let waiting = self.waiting.iter().enumerate();
        // Of equal logins, `min_by_key` returns the first, which has waited longest.
        let next = if self.served_round_robin {
            waiting.min_by_key(|(_, one)| one.round)
        } else {
            waiting.min_by_key(|(_, one)| one.first_seen)
        };
        let Some((index, _)) = next else {
            self.comparing = false;
            return None;
        };
        let login = self.waiting.remove(index);
        if self.served_round_robin {
            self.round = login.round;
        }
        Some(login.permit)
    }
}

impl Default for FirstSeen {
    fn default() -> Self {
        Self {
            next: 1,
            // The operating system allocates zeroed pages when they are first written.
            slots: vec![(0, 0); REMEMBERED],
        }
    }
}

impl FirstSeen {
    fn number(&mut self, tag: u64) -> u64 {
        let number = self.next;
        self.next += 1;
        let index = tag.checked_rem(self.slots.len() as u64).unwrap_or_default();
        let slot = usize::try_from(index).ok();
        match slot.and_then(|index| self.slots.get_mut(index)) {
            Some((known, first_seen)) if *known == tag && *first_seen > 0 => *first_seen,
            Some(slot) => {
                *slot = (tag, number);
                number
            }
            None => number,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use oneshot::error::TryRecvError;
    use proptest::prelude::*;

    use super::*;

    fn network(number: u64) -> Network {
        IpAddr::from((u128::from(number) << 64).to_be_bytes()).into()
    }

    /// A queue with a running comparison and waiting guesses, each from one of `networks`.
    fn flooded(guesses: u64, networks: u64, capacity: usize) -> (QueueState, Vec<Guess>) {
        let mut state = QueueState {
            comparing: true,
            ..QueueState::default()
        };
        let guesses = (0..guesses).map(|number| {
            let first_seen = state.first_seen.number(number);
            state.admit(network(number % networks), first_seen, capacity)
        });
        let guesses = guesses.collect();
        (state, guesses)
    }

    type Guess = oneshot::Receiver<ComparisonPermit>;

    fn is_waiting(login: &mut Guess) -> bool {
        matches!(login.try_recv(), Err(TryRecvError::Empty))
    }

    /// The number of comparisons that end before `login` is served.
    fn comparisons(state: &mut QueueState, login: &mut Guess) -> Option<u64> {
        for number in 1.. {
            drop(state.next()?);
            if !is_waiting(login) {
                return Some(number);
            }
        }
        None
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn login_from_another_address_waits_for_two_comparisons_per_flooding_address(
            guesses in 1..400_u64, networks in 1..40_u64, capacity in 40..200_usize, served in 0..100_usize,
        ) {
            let (mut state, _guesses) = flooded(guesses, networks, capacity);
            for _ in 0..served {
                drop(state.next());
            }
            state.comparing = true;
            let first_seen = state.first_seen.number(u64::MAX);
            let mut login = state.admit(network(1000), first_seen, capacity);
            prop_assert!(is_waiting(&mut login));
            let waited = comparisons(&mut state, &mut login).unwrap();
            prop_assert!(waited <= 2 * (networks + 1), "{waited}");
        }

        #[test]
        fn retried_credentials_pass_every_newer_guess(
            before in 0..100_u64, after in 0..400_u64, networks in 1..300_u64, capacity in 1..150_usize,
        ) {
            let (mut state, mut guesses) = flooded(before, networks, capacity);
            let first_seen = state.first_seen.number(u64::MAX);
            // Rejected or cancelled.
            drop(state.admit(network(0), first_seen, capacity));
            for number in before..before + after {
                let first_seen = state.first_seen.number(number);
                guesses.push(state.admit(network(number % networks), first_seen, capacity));
            }
            let older = |one: &&WaitingLogin| one.first_seen < first_seen;
            let older = state.waiting.iter().filter(older).count() as u64;
            // From the address with the most guesses, or from one without any.
            let own = if after % 2 == 0 { 0 } else { networks };
            let again = state.first_seen.number(u64::MAX);
            prop_assert_eq!(again, first_seen);
            let mut login = state.admit(network(own), again, capacity);
            // Among older logins of its own address, it can be the newest.
            prop_assume!(older == 0 || is_waiting(&mut login));
            prop_assert!(is_waiting(&mut login));
            let waited = comparisons(&mut state, &mut login);
            prop_assert!(waited.is_some_and(|waited| waited <= 2 * (older + 1)), "{waited:?}");
        }

        #[test]
        fn scraper_is_served_within_a_few_attempts_during_any_attack(
            guessers in 1..120_usize,
            networks in 1..120_u64,
            capacity in 8..70_usize,
            patience in 10..50_u64,
            own in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let attempts = attack(guessers, networks, capacity, patience, own, seed);
            // During each attempt and the pause after it, `2 * patience` guesses are served, half of
            // them by age.
            let bound = 2 + (capacity as u64).div_ceil(patience);
            prop_assert!(attempts <= bound, "{attempts} > {bound}");
        }
    }

    /// The attempts that a scraper needs beside guessers that send the next guess as soon as one is
    /// answered. It times out after `patience` comparisons and retries after as many.
    fn attack(
        guessers: usize,
        networks: u64,
        capacity: usize,
        patience: u64,
        own: bool,
        seed: u64,
    ) -> u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut state, _) = flooded(1, networks, capacity);
        let (mut tag, mut pending) = (1, Vec::new());
        let address = network(if own { networks } else { 0 });
        let mut guess = |state: &mut QueueState, pending: &mut Vec<Guess>| {
            pending.retain_mut(is_waiting);
            // Guessers that are rejected at once send another guess before the next comparison ends.
            for _ in pending.len()..guessers {
                tag += 1;
                let first_seen = state.first_seen.number(tag);
                let from = network(random.u64(0..networks));
                pending.push(state.admit(from, first_seen, capacity));
            }
        };
        for attempt in 1..100 {
            guess(&mut state, &mut pending);
            let first_seen = state.first_seen.number(u64::MAX);
            let mut login = state.admit(address, first_seen, capacity);
            for step in 0..2 * patience {
                guess(&mut state, &mut pending);
                if step == patience {
                    login.close();
                }
                let was_waiting = is_waiting(&mut login);
                drop(state.next());
                if step < patience && was_waiting && !is_waiting(&mut login) {
                    return attempt;
                }
            }
        }
        u64::MAX
    }

    #[tokio::test]
    async fn permit_skips_cancelled_logins() {
        let queue = LoginQueue::new(100);
        let permit = queue.permit(network(0), 0).await.unwrap();
        let waiting: Vec<_> = (1..90)
            .map(|tag| {
                let queue = Arc::clone(&queue);
                tokio::spawn(async move { queue.permit(network(tag), tag).await.is_some() })
            })
            .collect();
        tokio::task::yield_now().await;
        for (index, one) in waiting.iter().enumerate() {
            if index % 3 > 0 {
                one.abort();
            }
        }
        drop(permit);
        for (index, one) in waiting.into_iter().enumerate() {
            assert_eq!(one.await.ok(), (index % 3 == 0).then_some(true), "{index}");
        }
        // The permit is free again.
        assert!(queue.permit(network(0), 0).await.is_some());
    }
}
