//! Reports applications whose configuration the backup service cannot tell.
//!
//! Remembers them over the cycles, so that each is logged when it begins and when it ends.

use std::collections::BTreeMap;

use tracing::{info, warn};

use crate::model::Name;

/// How an application has answered for its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usability {
    /// The answer determines what applies to the partitions.
    Usable,
    /// It does not, and nothing else is wrong.
    Unusable,
    /// The request failed.
    Unknown,
}

/// The applications without a usable answer, and whether their last answer was usable: two in a
/// row end the fault, so that an answer that is usable every other time is one fault.
#[derive(Debug, Default)]
pub(super) struct Unusable(BTreeMap<Name, bool>);

impl Unusable {
    /// Logs how the answers of a cycle differ from those before. Applications that are not among
    /// them are forgotten.
    pub(super) fn report(&mut self, cluster: &str, answers: &BTreeMap<Name, Usability>) {
        let (begun, ended) = self.observe(answers);
        if !begun.is_empty() {
            let (applications, count) = (listed(&begun), begun.len());
            warn!(
                cluster,
                count,
                "Cluster {cluster}: the backup service has no usable answer for the configuration of \
                 {applications}; their partitions are asked one by one."
            );
        }
        if !ended.is_empty() {
            let (applications, count) = (listed(&ended), ended.len());
            info!(
                cluster,
                count,
                "Cluster {cluster}: the backup service answers for the configuration of \
                 {applications} again."
            );
        }
    }

    /// The applications that the fault began and ended for.
    fn observe(&mut self, answers: &BTreeMap<Name, Usability>) -> (Vec<Name>, Vec<Name>) {
        self.0.retain(|name, _| answers.contains_key(name));
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        for (name, usability) in answers {
            match (usability, self.0.get(name)) {
                (Usability::Unusable, known) => {
                    if known.is_none() {
                        begun.push(Name::clone(name));
                    }
                    self.0.insert(Name::clone(name), false);
                }
                (Usability::Usable, Some(true)) => {
                    self.0.remove(name);
                    ended.push(Name::clone(name));
                }
                (Usability::Usable, Some(false)) => drop(self.0.insert(Name::clone(name), true)),
                (Usability::Usable, None) | (Usability::Unknown, _) => {}
            }
        }
        (begun, ended)
    }
}

/// Some of these names, in one line.
fn listed(names: &[Name]) -> String {
    const MAX_NAMED: usize = 10;
    let more = names.len().saturating_sub(MAX_NAMED);
    let named = names.iter().take(MAX_NAMED).map(ToString::to_string);
    let more = (more > 0).then(|| format!("{more} more"));
    named.chain(more).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::Usability::{Unknown, Unusable as Broken, Usable};
    use super::*;

    /// What is reported in each of these cycles about one application: `+` for a beginning, `-`
    /// for an end.
    fn reported(cycles: &[Usability]) -> String {
        let name: Name = "fabric:/App".into();
        let mut unusable = Unusable::default();
        let cycles = cycles.iter().map(|usability| {
            let answers = [(Name::clone(&name), *usability)].into();
            match unusable.observe(&answers) {
                (begun, ended) if begun == [Name::clone(&name)] && ended.is_empty() => '+',
                (begun, ended) if ended == [Name::clone(&name)] && begun.is_empty() => '-',
                _ => '.',
            }
        });
        cycles.collect()
    }

    #[test]
    fn a_lasting_fault_is_reported_when_it_begins_and_when_it_ends() {
        for (cycles, expected) in [
            (&[Usable, Usable, Unknown][..], "..."),
            (&[Broken, Broken, Broken, Usable, Usable, Usable], "+...-."),
            (&[Usable, Broken, Usable, Broken, Usable, Broken], ".+...."),
            (
                &[Broken, Unknown, Unknown, Usable, Unknown, Usable],
                "+....-",
            ),
            (&[Broken, Usable, Usable, Broken], "+.-+"),
        ] {
            assert_eq!(reported(cycles), expected, "{cycles:?}");
        }
    }

    #[test]
    fn an_application_that_is_gone_is_forgotten_without_a_line() {
        let mut unusable = Unusable::default();
        let broken = |names: &[&str]| {
            let names = names.iter().map(|name| (Name::from(*name), Broken));
            names.collect::<BTreeMap<_, _>>()
        };
        let (begun, _) = unusable.observe(&broken(&["fabric:/A", "fabric:/B"]));
        assert_eq!(begun, ["fabric:/A".into(), "fabric:/B".into()]);
        let nothing = (Vec::new(), Vec::new());
        assert_eq!(unusable.observe(&broken(&["fabric:/B"])), nothing);
        let (begun, _) = unusable.observe(&broken(&["fabric:/A", "fabric:/B"]));
        assert_eq!(begun, ["fabric:/A".into()], "created again");
    }

    #[test]
    fn many_names_are_cut() {
        let names: Vec<Name> = (0..12).map(|n| format!("fabric:/{n}").into()).collect();
        assert!(listed(&names).ends_with(", fabric:/9, 2 more"));
        assert_eq!(listed(&names[..1]), "fabric:/0");
    }
}
