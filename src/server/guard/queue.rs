//! The queue of logins that wait for their password comparison; one comparison runs at a time.
//!
//! Two orders take turns. One goes round the networks of the clients: a flood of guesses from one
//! address delays logins from others by a comparison or two. The other serves the credentials that
//! were first seen earliest, over all their attempts: a scraper that was refused or has given up
//! comes back ahead of every guess that is newer than its first attempt. This limits a flood from
//! its own address, as behind a proxy, and from many addresses.
//!
//! Invariant: while a login waits, a comparison runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::server::network::Network;

/// Credentials whose first attempt is remembered: those of a minute at 4,000 guesses a second.
const REMEMBERED: usize = 1 << 18;

/// The queue of one server.
#[derive(Debug)]
pub(super) struct Queue {
    /// The most logins that wait.
    capacity: usize,
    state: Mutex<State>,
}

/// The right to run a comparison. The next login gets it when it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Arc<Queue>);

#[derive(Debug, Default)]
struct State {
    comparing: bool,
    /// In the order of arrival.
    waiting: Vec<Waiting>,
    /// Of the last login that was served by network.
    round: u64,
    /// Whether the last login was served by network.
    served_by_network: bool,
    first_seen: FirstSeen,
}

#[derive(Debug)]
struct Waiting {
    network: Network,
    /// Every network has at most one login in each round.
    round: u64,
    first_seen: u64,
    turn: oneshot::Sender<Turn>,
}

/// When credentials were first seen, as a number that increases. Newer ones overwrite older ones.
#[derive(Debug)]
struct FirstSeen {
    next: u64,
    /// A tag and the number, 0 while the slot is free.
    slots: Vec<(u64, u64)>,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            state: Mutex::default(),
        })
    }

    /// Waits for the turn of credentials that `tag` identifies. `None` when too many others wait.
    pub(super) async fn turn(self: &Arc<Self>, network: Network, tag: u64) -> Option<Turn> {
        let waiting = {
            let mut state = self.lock();
            let first_seen = state.first_seen.of(tag);
            if !state.comparing {
                state.comparing = true;
                return Some(Turn(Arc::clone(self)));
            }
            state.admit(network, first_seen, self.capacity)
        };
        waiting.await.ok()
    }

    fn pass_on(self: &Arc<Self>) {
        let next = self.lock().next();
        if let Some(login) = next {
            // If the login has given up, this drops the turn, which then goes to the next one.
            drop(login.send(Turn(Arc::clone(self))));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.pass_on();
    }
}

impl State {
    /// Adds a login, and refuses one if there are too many then.
    fn admit(
        &mut self,
        network: Network,
        first_seen: u64,
        capacity: usize,
    ) -> oneshot::Receiver<Turn> {
        self.waiting.retain(|one| !one.turn.is_closed());
        let same = self.waiting.iter().filter(|one| one.network == network);
        let round = same.map(|one| one.round + 1).max();
        let (turn, receiver) = oneshot::channel();
        self.waiting.push(Waiting {
            network,
            round: round.unwrap_or_default().max(self.round),
            first_seen,
            turn,
        });
        if self.waiting.len() > capacity {
            self.refuse_newest_of_largest();
        }
        receiver
    }

    /// Of the networks with the most logins, the one whose credentials were first seen last.
    fn refuse_newest_of_largest(&mut self) {
        let mut sizes: HashMap<Network, usize> = HashMap::new();
        for one in &self.waiting {
            *sizes.entry(one.network).or_default() += 1;
        }
        let waiting = self.waiting.iter().enumerate();
        let refused =
            waiting.max_by_key(|(_, one)| (sizes.get(&one.network).copied(), one.first_seen));
        if let Some((index, _)) = refused {
            self.waiting.remove(index);
        }
    }

    /// The login whose turn it is; the comparison has ended.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        self.waiting.retain(|one| !one.turn.is_closed());
        self.served_by_network = !self.served_by_network;
        let waiting = self.waiting.iter().enumerate();
        // Of equal ones this is the first, which has waited longest.
        let next = if self.served_by_network {
            waiting.min_by_key(|(_, one)| one.round)
        } else {
            waiting.min_by_key(|(_, one)| one.first_seen)
        };
        let Some((index, _)) = next else {
            self.comparing = false;
            return None;
        };
        let login = self.waiting.remove(index);
        if self.served_by_network {
            self.round = login.round;
        }
        Some(login.turn)
    }
}

impl Default for FirstSeen {
    fn default() -> Self {
        Self {
            next: 1,
            // Memory that is zero takes none until it is used.
            slots: vec![(0, 0); REMEMBERED],
        }
    }
}

impl FirstSeen {
    fn of(&mut self, tag: u64) -> u64 {
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

    /// A queue in which a comparison runs and guesses wait, each from one of `networks`.
    fn flooded(guesses: u64, networks: u64, capacity: usize) -> (State, Vec<Guess>) {
        let mut state = State {
            comparing: true,
            ..State::default()
        };
        let guesses = (0..guesses).map(|number| {
            let first_seen = state.first_seen.of(number);
            state.admit(network(number % networks), first_seen, capacity)
        });
        let guesses = guesses.collect();
        (state, guesses)
    }

    type Guess = oneshot::Receiver<Turn>;

    fn is_waiting(login: &mut Guess) -> bool {
        matches!(login.try_recv(), Err(TryRecvError::Empty))
    }

    /// How many comparisons end until it is the turn of `login`.
    fn comparisons(state: &mut State, login: &mut Guess) -> Option<u64> {
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
        fn a_login_from_another_address_waits_for_two_comparisons_per_flooding_address(
            guesses in 1..400_u64, networks in 1..40_u64, capacity in 40..200_usize, served in 0..100_usize,
        ) {
            let (mut state, _guesses) = flooded(guesses, networks, capacity);
            for _ in 0..served {
                drop(state.next());
            }
            state.comparing = true;
            let first_seen = state.first_seen.of(u64::MAX);
            let mut login = state.admit(network(1000), first_seen, capacity);
            prop_assert!(is_waiting(&mut login));
            let waited = comparisons(&mut state, &mut login).unwrap();
            prop_assert!(waited <= 2 * (networks + 1), "{waited}");
        }

        #[test]
        fn credentials_that_come_back_pass_every_newer_guess(
            before in 0..100_u64, after in 0..400_u64, networks in 1..300_u64, capacity in 1..150_usize,
        ) {
            let (mut state, mut guesses) = flooded(before, networks, capacity);
            let first_seen = state.first_seen.of(u64::MAX);
            // Refused, or given up.
            drop(state.admit(network(0), first_seen, capacity));
            for number in before..before + after {
                let first_seen = state.first_seen.of(number);
                guesses.push(state.admit(network(number % networks), first_seen, capacity));
            }
            let older = |one: &&Waiting| one.first_seen < first_seen;
            let older = state.waiting.iter().filter(older).count() as u64;
            // From the address of the most guesses, or from one that has none yet.
            let own = if after % 2 == 0 { 0 } else { networks };
            let again = state.first_seen.of(u64::MAX);
            prop_assert_eq!(again, first_seen);
            let mut login = state.admit(network(own), again, capacity);
            // Among older ones of its own address it can be the newest.
            prop_assume!(older == 0 || is_waiting(&mut login));
            prop_assert!(is_waiting(&mut login));
            let waited = comparisons(&mut state, &mut login);
            prop_assert!(waited.is_some_and(|waited| waited <= 2 * (older + 1)), "{waited:?}");
        }

        #[test]
        fn a_scraper_gets_its_turn_in_a_few_attempts_whoever_guesses(
            guessers in 1..120_usize,
            networks in 1..120_u64,
            capacity in 8..70_usize,
            patience in 10..50_u64,
            own in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let attempts = attack(guessers, networks, capacity, patience, own, seed);
            // Each attempt and the pause after it see off `2 * patience` guesses, half of them by age.
            let bound = 2 + (capacity as u64).div_ceil(patience);
            prop_assert!(attempts <= bound, "{attempts} > {bound}");
        }
    }

    /// Attempts of a scraper among guessers that send another guess as soon as one is answered. It
    /// gives up after `patience` comparisons and comes back after as many.
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
        let mut guess = |state: &mut State, pending: &mut Vec<Guess>| {
            pending.retain_mut(is_waiting);
            // Those that are refused at once send another one before the next comparison ends.
            for _ in pending.len()..guessers {
                tag += 1;
                let first_seen = state.first_seen.of(tag);
                let from = network(random.u64(0..networks));
                pending.push(state.admit(from, first_seen, capacity));
            }
        };
        for attempt in 1..100 {
            guess(&mut state, &mut pending);
            let first_seen = state.first_seen.of(u64::MAX);
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
    async fn a_turn_goes_on_past_logins_that_have_given_up() {
        let queue = Queue::new(100);
        let turn = queue.turn(network(0), 0).await.unwrap();
        let waiting: Vec<_> = (1..90)
            .map(|tag| {
                let queue = Arc::clone(&queue);
                tokio::spawn(async move { queue.turn(network(tag), tag).await.is_some() })
            })
            .collect();
        tokio::task::yield_now().await;
        for (index, one) in waiting.iter().enumerate() {
            if index % 3 > 0 {
                one.abort();
            }
        }
        drop(turn);
        for (index, one) in waiting.into_iter().enumerate() {
            assert_eq!(one.await.ok(), (index % 3 == 0).then_some(true), "{index}");
        }
        // Nobody has it, so it is free.
        assert!(queue.turn(network(0), 0).await.is_some());
    }
}
