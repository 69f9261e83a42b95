//! How states look: the one place that gives them colours, numbers and an order.
//!
//! The colours are those of Okabe and Ito, which the colour-blind can tell apart: blue and green for
//! what is on time, orange and vermillion for what is late or broken, purple for what nobody
//! protects, yellow for what is suspended, grey for what is not known. The word is always shown too.

use serde_json::{Map, Value, json};
use servicefabric_backup_exporter::model::{BackupState, RestoreState};
use servicefabric_backup_exporter::protection::Protection;

pub(super) const GREEN: &str = "#009E73";
pub(super) const SKY: &str = "#56B4E9";
pub(super) const BLUE: &str = "#0072B2";
pub(super) const YELLOW: &str = "#F0E442";
pub(super) const ORANGE: &str = "#E69F00";
pub(super) const VERMILLION: &str = "#D55E00";
const BROWN: &str = "#994F00";
pub(super) const PURPLE: &str = "#CC79A7";
pub(super) const GREY: &str = "#999999";

/// Verdicts that say: there should be a backup, and there is none.
pub(super) const BROKEN: &str = "NeverBackedUp|Overdue|Stuck";

/// A state as it is shown. Its number, unlike its word, can be drawn over time.
#[derive(Clone, Copy)]
pub(super) struct State {
    pub(super) word: &'static str,
    pub(super) colour: &'static str,
    number: usize,
}

/// States and all that a panel needs to show them.
pub(super) struct States {
    family: &'static str,
    /// From the worst to the best.
    pub(super) states: Vec<State>,
}

/// The verdicts. Their numbers grow with the harm, so that `topk` finds the worst: from Stuck up it is
/// broken, up to Failing it is on time.
pub(super) fn verdicts() -> States {
    let harm = |verdict| match verdict {
        Protection::NeverBackedUp => (9, VERMILLION),
        Protection::Overdue => (8, ORANGE),
        Protection::Stuck => (7, BROWN),
        Protection::Unknown => (6, GREY),
        Protection::Unprotected => (5, PURPLE),
        Protection::Suspended => (4, YELLOW),
        Protection::Failing => (3, BLUE),
        Protection::Pending => (2, SKY),
        Protection::Protected => (1, GREEN),
    };
    let all = Protection::ALL.map(|verdict| (verdict.as_str(), harm(verdict)));
    States::new("servicefabric_backup_protection_state", &all)
}

/// The states of a requested backup.
pub(super) fn requests() -> States {
    let harm = |state| match state {
        BackupState::Failure => (17, VERMILLION),
        BackupState::Timeout => (16, ORANGE),
        BackupState::Unknown => (15, GREY),
        BackupState::Invalid => (14, GREY),
        BackupState::Accepted => (13, SKY),
        BackupState::BackupInProgress => (12, BLUE),
        BackupState::Success => (11, GREEN),
    };
    let all = BackupState::ALL.map(|state| (state.as_str(), harm(state)));
    States::new("servicefabric_backup_progress_state", &all)
}

/// The states of a restore.
pub(super) fn restores() -> States {
    let harm = |state| match state {
        RestoreState::Failure => (28, VERMILLION),
        RestoreState::Timeout => (27, ORANGE),
        RestoreState::Unknown => (26, GREY),
        RestoreState::Invalid => (25, GREY),
        RestoreState::Accepted => (24, SKY),
        RestoreState::RestoreInProgress => (23, BLUE),
        RestoreState::SecondariesInProgress => (22, PURPLE),
        RestoreState::Success => (21, GREEN),
    };
    let all = RestoreState::ALL.map(|state| (state.as_str(), harm(state)));
    States::new("servicefabric_backup_restore_state", &all)
}

impl States {
    fn new(family: &'static str, all: &[(&'static str, (usize, &'static str))]) -> Self {
        let states = all.iter().map(|(word, (number, colour))| State {
            word,
            colour,
            number: *number,
        });
        let mut states: Vec<State> = states.collect();
        states.sort_by_key(|state| usize::MAX - state.number);
        Self { family, states }
    }

    /// The number of the state with this word.
    pub(super) fn number(&self, word: &str) -> usize {
        let state = self.states.iter().find(|state| state.word == word);
        state.expect("a state of the enum").number
    }

    /// A query for the number of the state, one series per value of the labels `by`. Where two
    /// exporters see different states, the worse one counts, and what one of them knows before
    /// what the other does not.
    pub(super) fn numbers(&self, by: &str) -> String {
        let is_unknown = |state: &&State| state.word == "Unknown";
        let of = |State { word, number, .. }: &State| {
            format!(
                r#"{number} * ({}{{@partitions, state="{word}"}} == 1)"#,
                self.family
            )
        };
        let states = self.states.iter();
        let known: Vec<String> = states
            .clone()
            .filter(|state| !is_unknown(state))
            .map(of)
            .collect();
        let unknown: String = states.filter(is_unknown).map(of).collect();
        let known = known.join("\n  or ");
        format!("max by ({by}) (\n  {known}\n)\nor max by ({by}) ({unknown})")
    }

    /// A query for how many partitions are in each state, each counted once. Besides the word in
    /// `state`, the label `rank` has the number, for sorting.
    pub(super) fn counts(&self) -> String {
        let counted = format!("count_values(\"rank\", {})", self.numbers("@id"));
        self.states
            .iter()
            .fold(counted, |query, State { word, number, .. }| {
                format!(r#"label_replace({query}, "state", "{word}", "rank", "{number}")"#)
            })
    }

    /// A query for the partitions in one of the states `words`, each once with the worst of them.
    pub(super) fn worst(&self, words: &str) -> String {
        let family = self.family;
        let chosen = self
            .states
            .iter()
            .filter(|state| words.split('|').any(|word| word == state.word));
        let one = |State { word, number, .. }: &State| {
            format!(
                r#"{number} * max by (@id, state) ({family}{{@partitions, state="{word}"}} == 1)"#
            )
        };
        let all: Vec<String> = chosen.map(one).collect();
        format!("topk by (@id) (1, {})", all.join(" or "))
    }

    /// Shows numbers and words of states as words, in their colours.
    pub(super) fn mapping(&self) -> Value {
        let mut options = Map::new();
        for (index, state) in self.states.iter().enumerate() {
            let shown = json!({ "text": state.word, "color": state.colour, "index": index });
            options.insert(state.number.to_string(), shown.clone());
            options.insert(state.word.to_owned(), shown);
        }
        json!({ "type": "value", "options": options })
    }
}

/// Shows two values of a flag as words.
pub(super) fn flag(yes: (&str, &str), no: (&str, &str)) -> Value {
    json!({ "type": "value", "options": {
        "1": { "text": yes.0, "color": yes.1, "index": 0 },
        "0": { "text": no.0, "color": no.1, "index": 1 },
    } })
}

/// How a column of a table shows a flag, and the words where there is none.
pub(super) fn flags(yes: (&str, &str), no: (&str, &str), none: &str) -> [(&'static str, Value); 3] {
    [
        ("mappings", json!([flag(yes, no)])),
        (
            "custom.cellOptions",
            json!({ "type": "color-background", "mode": "basic" }),
        ),
        ("noValue", json!(none)),
    ]
}

/// Shows values up to `to` as words.
pub(super) fn up_to(to: f64, text: &str, colour: &str) -> Value {
    json!({ "type": "range", "options": {
        "from": null, "to": to, "result": { "text": text, "color": colour, "index": 0 },
    } })
}

/// How a column of a table shows states.
pub(super) fn words(states: &States) -> [(&'static str, Value); 3] {
    [
        ("mappings", json!([states.mapping()])),
        (
            "custom.cellOptions",
            json!({ "type": "color-background", "mode": "basic" }),
        ),
        ("custom.width", json!(130)),
    ]
}
