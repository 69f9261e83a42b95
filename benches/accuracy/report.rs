//! The tables of `docs/accuracy.md`, and their places in it.
//!
//! Responsible for Markdown. Only figures that are the same on every machine stand in it.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use servicefabric_backup_exporter::protection::ProtectionState;

use crate::simulation::Plan;
use crate::simulation::rates::RATES;
use crate::simulation::tally::{OBSERVERS, Tally, share};

/// Puts the tables between their marks in the document.
pub(crate) fn write(path: &Path, plan: &Plan, tally: &Tally) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    let text = between(&text, "disturbances", &disturbances());
    let text = between(&text, "figures", &figures(plan, tally));
    fs::write(path, text)
}

/// The text with another part between `<!-- name -->` and `<!-- end of name -->`.
fn between(text: &str, name: &str, part: &str) -> String {
    let (begin, end) = (
        format!("<!-- {name} -->\n"),
        format!("<!-- end of {name} -->"),
    );
    let Some((before, rest)) = text.split_once(&begin) else {
        return text.to_owned();
    };
    let after = rest.split_once(&end).map_or("", |(_, after)| after);
    format!("{before}{begin}\n{part}\n{end}{after}")
}

fn disturbances() -> String {
    let mut table = "| In ninety days, of each cluster | What |\n|---:|---|\n".to_owned();
    for rate in &RATES {
        line(
            &mut table,
            format_args!("| {} | {} |", rate.per_quarter, rate.what),
        );
    }
    table
}

/// All figures of a run.
pub(crate) fn figures(plan: &Plan, tally: &Tally) -> String {
    let days = share(tally.looks(), 24 * 60);
    let mut text = format!(
        "{} clusters, {} partitions at the beginning, {} days, seed {}: {} partition-minutes \
         ({days:.0} partition-days) were compared; in {} the exporter did not run or had not found \
         the partition yet.\n\n",
        plan.clusters,
        plan.clusters * plan.partitions,
        plan.days,
        plan.seed,
        thousands(tally.looks()),
        thousands(tally.down),
    );
    breaches(&mut text, tally);
    errors(&mut text, tally);
    verdicts(&mut text, tally);
    confusion(&mut text, tally);
    reasons(&mut text, tally);
    text
}

fn breaches(text: &mut String, tally: &Tally) {
    let columns = OBSERVERS.join(" | ");
    line(
        text,
        format_args!(
            "| | {columns} | this exporter, published before |\n|---|---:|---:|---:|---:|"
        ),
    );
    let count = thousands(tally.breaches.len() as u64);
    row(
        text,
        (
            "breaches that could be seen for longer than two polls",
            "3,197",
        ),
        |_| count.clone(),
    );
    row(text, ("missed", "0"), |observer| {
        tally.missed(observer).to_string()
    });
    row(
        text,
        (
            "reported within two polls, where answers show it",
            "99.91 %",
        ),
        |observer| format!("{:.2} %", tally.in_time(observer) * 100.0),
    );
    row(
        text,
        ("delay, median of those reported", "29 s"),
        |observer| delay(tally, observer, 50),
    );
    row(
        text,
        ("delay, 99th percentile of those reported", "60 s"),
        |observer| delay(tally, observer, 99),
    );
    row(text, ("alarms", "12,325"), |observer| {
        thousands(tally.alarms.get(observer).copied().unwrap_or_default())
    });
    row(
        text,
        ("false alarms in 1,000 partition-days", "0.731"),
        |observer| format!("{:.3}", tally.false_rate(observer)),
    );
}

fn errors(text: &mut String, tally: &Tally) {
    let lies = tally.protected_in_breach;
    line(
        text,
        format_args!(
            "\n| Partition-minutes | |\n|---|---:|\n\
             | `Protected` in a breach that answers had shown for more than two polls | {} |\n\
             | `Protected` in a breach that only the next list could show | {} |\n\
             | `Protected` in a breach that only a list could show, while no list could be read | {} |\n\
             | `Protected` in a breach that only a list of all backups could show | {} |\n\
             | a verdict other than `Unknown` after more than one poll without sight | {} |\n",
            thousands(lies.against_answers),
            thousands(lies.before_the_list),
            thousands(lies.without_lists),
            thousands(lies.without_history),
            thousands(tally.without_sight)
        ),
    );
    let listed = thousands(tally.listed().count() as u64);
    let unseen = tally.breaches.iter().filter(|it| it.after_unseen_restart);
    line(
        text,
        format_args!(
            "{listed} of the breaches were shown by a list only; {:.2} % of them were reported within \
             one interval of lists and two polls. {} of the breaches were gaps that a restart made \
             longer which shows nowhere.\n",
            tally.in_time_by_list() * 100.0,
            thousands(unseen.count() as u64),
        ),
    );
}

/// A row with a name, the figure of each observer and the one that was published before.
fn row(text: &mut String, (name, before): (&str, &str), cell: impl Fn(usize) -> String) {
    let cells: Vec<String> = (0..OBSERVERS.len()).map(cell).collect();
    let cells = cells.join(" | ");
    line(text, format_args!("| {name} | {cells} | {before} |"));
}

fn delay(tally: &Tally, observer: usize, percent: usize) -> String {
    let delays = tally.delays(observer);
    let delay = delays.get(delays.len().saturating_sub(1) * percent / 100);
    delay.map_or_else(
        || "never".to_owned(),
        |delay| format!("{} s", thousands((delay / 1_000).unsigned_abs())),
    )
}

fn verdicts(text: &mut String, tally: &Tally) {
    line(
        text,
        format_args!(
            "| Verdict | true, partition-minutes | reported | precision | recall | precision and recall published before |\n|---|---:|---:|---:|---:|---:|"
        ),
    );
    for state in ProtectionState::ALL {
        let is_true = tally.sum(|truth, _| truth == state);
        let said = tally.sum(|_, said| said == state);
        let both = tally.sum(|truth, said| truth == state && said == state);
        line(
            text,
            format_args!(
                "| `{}` | {} | {} | {:.3} % | {:.3} % | {} |",
                state.as_str(),
                thousands(is_true),
                thousands(said),
                share(both, said) * 100.0,
                share(both, is_true) * 100.0,
                published_before(state),
            ),
        );
    }
}

/// Precision and recall of the figures that assumed a simpler Service Fabric.
const fn published_before(state: ProtectionState) -> &'static str {
    match state {
        ProtectionState::Unknown => "95.392 %, 100.000 %",
        ProtectionState::Stuck => "99.023 %, 99.425 %",
        ProtectionState::Unprotected => "100.000 %, 99.999 %",
        ProtectionState::Suspended => "99.943 %, 99.934 %",
        ProtectionState::NeverBackedUp => "95.203 %, 98.501 %",
        ProtectionState::Overdue => "98.789 %, 99.861 %",
        ProtectionState::Failing => "99.164 %, 95.470 %",
        ProtectionState::Pending => "99.669 %, 99.913 %",
        ProtectionState::Protected => "99.972 %, 99.928 %",
    }
}

/// The verdicts reported instead, where they were wrong.
fn confusion(text: &mut String, tally: &Tally) {
    line(
        text,
        format_args!("\n| True | Reported instead, partition-minutes |\n|---|---|"),
    );
    for state in ProtectionState::ALL {
        let wrong = tally.minutes.iter();
        let wrong = wrong.filter(|((truth, said), _)| *truth == state && *said != state);
        let wrong =
            wrong.map(|((_, said), count)| format!("`{}` {}", said.as_str(), thousands(*count)));
        let wrong: Vec<String> = wrong.collect();
        line(
            text,
            format_args!("| `{}` | {} |", state.as_str(), wrong.join(", ")),
        );
    }
}

fn reasons(text: &mut String, tally: &Tally) {
    line(
        text,
        format_args!("\n| False alarm | When | Number |\n|---|---|---:|"),
    );
    for ((verdict, excuse), count) in &tally.reasons {
        line(text, format_args!("| {verdict} | {excuse} | {count} |"));
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes everything");
}

/// A number with a comma before each group of three digits.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
