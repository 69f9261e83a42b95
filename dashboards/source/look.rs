//! How states look: the one place that gives them colours, numbers and an order.
//!
//! The colour-blind can tell the colours apart: they are those of Okabe and Ito, and two that are
//! much darker and much lighter. Blue and green are for what is on time, orange, vermillion and
//! maroon for what is late, failed or stuck, purple for what nobody protects, yellow for what is
//! suspended, light grey for what is not known. The word is always shown too.

use serde_json::{Map, Value, json};
use servicefabric_backup_exporter::model::{BackupState, RestoreState};
use servicefabric_backup_exporter::protection::ProtectionState;

pub(super) const GREEN: &str = "#009E73";
pub(super) const SKY: &str = "#56B4E9";
pub(super) const BLUE: &str = "#0072B2";
pub(super) const YELLOW: &str = "#F0E442";
pub(super) const ORANGE: &str = "#E69F00";
pub(super) const VERMILLION: &str = "#D55E00";
/// No good news and no bad: the colour of the panel behind.
pub(super) const NEUTRAL: &str = "transparent";
const MAROON: &str = "#661100";
pub(super) const PURPLE: &str = "#CC79A7";
pub(super) const GREY: &str = "#DDDDDD";

/// From this verdict on: there should be a backup, and there is none.
pub(super) const BROKEN: ProtectionState = ProtectionState::Stuck;

/// A state as it is shown. Its number, unlike its word, can be drawn over time.
#[derive(Clone)]
pub(super) struct State {
    pub(super) word: &'static str,
    pub(super) colour: &'static str,
    number: f64,
}

/// States and all that a panel needs to show them.
pub(super) struct States {
    family: &'static str,
    /// From the worst to the best.
    pub(super) states: Vec<State>,
}

/// The number of Unknown, which has no severity: worse than all that is on time or has no schedule,
/// and yet not broken. Blind is not late.
const UNKNOWN: f64 = 5.5;

/// The verdicts. Their numbers are the severities, so that `topk` finds the worst.
pub(super) fn verdicts() -> States {
    let colour = |verdict| match verdict {
        ProtectionState::NeverBackedUp => VERMILLION,
        ProtectionState::Overdue => ORANGE,
        ProtectionState::Stuck => MAROON,
        ProtectionState::Unknown => GREY,
        ProtectionState::Unprotected => PURPLE,
        ProtectionState::Suspended => YELLOW,
        ProtectionState::Failing => BLUE,
        ProtectionState::Pending => SKY,
        ProtectionState::Protected => GREEN,
    };
    let all =
        ProtectionState::ALL.map(|verdict| (verdict.as_str(), number_of(verdict), colour(verdict)));
    States::new("servicefabric_backup_protection_state", all)
}

/// The number that stands for a verdict.
pub(super) fn number_of(verdict: ProtectionState) -> f64 {
    let severity = verdict.severity().map(i32::try_from);
    severity.and_then(Result::ok).map_or(UNKNOWN, f64::from)
}

/// A query for the severity of each partition with a known verdict: of several exporters the worst.
pub(super) const SEVERITY: &str =
    "max by (@id) (servicefabric_backup_protection_severity{@partitions})";

/// A query for the number of the verdict of each partition. What one exporter knows counts before
/// what another does not.
pub(super) fn verdict_numbers() -> String {
    let unknown = r#"servicefabric_backup_protection_state{@partitions, state="Unknown"}"#;
    format!("{SEVERITY}\nor max by (@id) ({UNKNOWN} * ({unknown} == 1))")
}

/// The states of a requested backup.
pub(super) fn requests() -> States {
    let harm = |state| match state {
        BackupState::Failure => (17.0, VERMILLION),
        BackupState::Timeout => (16.0, ORANGE),
        BackupState::Unknown => (15.0, GREY),
        BackupState::Invalid => (14.0, GREY),
        BackupState::Accepted => (13.0, SKY),
        BackupState::BackupInProgress => (12.0, BLUE),
        BackupState::Success => (11.0, GREEN),
    };
    let all = BackupState::ALL.map(|state| (state.as_str(), harm(state).0, harm(state).1));
    States::new("servicefabric_backup_progress_state", all)
}

/// The states of a restore.
pub(super) fn restores() -> States {
    let harm = |state| match state {
        RestoreState::Failure => (28.0, VERMILLION),
        RestoreState::Timeout => (27.0, ORANGE),
        RestoreState::Unknown => (26.0, GREY),
        RestoreState::Invalid => (25.0, GREY),
        RestoreState::Accepted => (24.0, SKY),
        RestoreState::RestoreInProgress => (23.0, BLUE),
        RestoreState::SecondariesInProgress => (22.0, PURPLE),
        RestoreState::Success => (21.0, GREEN),
    };
    let all = RestoreState::ALL.map(|state| (state.as_str(), harm(state).0, harm(state).1));
    States::new("servicefabric_backup_restore_state", all)
}

impl States {
    fn new<const N: usize>(
        family: &'static str,
        all: [(&'static str, f64, &'static str); N],
    ) -> Self {
        let mut states = all
            .map(|(word, number, colour)| State {
                word,
                colour,
                number,
            })
            .to_vec();
        states.sort_by(|one, other| other.number.total_cmp(&one.number));
        Self { family, states }
    }

    /// A query for the number of the state of each partition. Where two exporters see different
    /// states, the worse one counts, and what one of them knows before what the other does not.
    pub(super) fn numbers(&self) -> String {
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
        format!("max by (@id) (\n  {known}\n)\nor max by (@id) ({unknown})")
    }

    /// A query for how many partitions have each verdict, each counted once. Besides the word in
    /// `state`, the label `rank` has the number, for sorting.
    pub(super) fn counts(&self) -> String {
        let counted = format!("count_values(\"rank\", {})", verdict_numbers());
        self.states
            .iter()
            .fold(counted, |query, State { word, number, .. }| {
                format!(r#"label_replace({query}, "state", "{word}", "rank", "{number}")"#)
            })
    }

    /// A query for the partitions in a state with this number or a higher one, each once with the
    /// worst of them.
    pub(super) fn worst(&self, least: f64) -> String {
        let family = self.family;
        let chosen = self.states.iter().filter(|state| state.number >= least);
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

/// How a column of a table shows a flag.
pub(super) fn flags(yes: (&str, &str), no: (&str, &str)) -> [(&'static str, Value); 2] {
    [
        ("mappings", json!([flag(yes, no)])),
        (
            "custom.cellOptions",
            json!({ "type": "color-background", "mode": "basic" }),
        ),
    ]
}

/// Shows values up to `to` as words. Grafana 9.4 takes a missing `from` for 0.
pub(super) fn up_to(to: f64, text: &str, colour: &str) -> Value {
    json!({ "type": "range", "options": {
        "from": -1e15, "to": to, "result": { "text": text, "color": colour, "index": 0 },
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
