//! Encodes and decodes the state file, version 3.
//!
//! Each line is an entry: its CRC-32 in eight hexadecimal digits, a blank, and JSON. Lines are
//! independent of each other; the last one contains the number of entries, which reveals missing
//! ones. The types in this module are the file format and change only together with [`VERSION`];
//! those of the model may change freely.

mod entries;
mod success;
mod version_1;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufWriter, Read as _, Write};
use std::sync::Arc;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use self::entries::{PartitionEntry, ServiceEntry};
use crate::model::{Name, PartitionId};
use crate::snapshot::{PartitionSnapshot, ServiceKey, ServiceTotals, Snapshot};

/// The version that is written.
pub(super) const VERSION: u64 = 3;

/// The previous version: the same lines, with one success of unknown source for each partition.
const VERSION_2: u64 = 2;

/// Maximum length of a line in bytes. An entry has up to three names of 1,024 characters, or two and
/// 64 failure codes.
const MAX_LINE: u64 = 64 * 1024;

/// Maximum size of a state file in bytes: 2 KB for each of at most 500,000 partitions, which take
/// 750 bytes on average.
pub(super) const MAX_FILE: u64 = 1024 * 1024 * 1024;

/// Why a state file, or a part of it, could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Reading failed.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// The file is too large.
    #[error("it is too large: {0} bytes, the limit is {limit}", limit = MAX_FILE)]
    TooLarge(u64),
    /// The first line is not that of a state file.
    #[error("it is damaged, or not a state file")]
    Header,
    /// The file has version 1 and is truncated or otherwise damaged.
    #[error("it is damaged")]
    Decode(#[source] serde_json::Error),
    /// The file was written by a later version of the exporter.
    #[error("it has format version {0}, this program reads versions 1 to {ours}", ours = VERSION)]
    Version(u64),
    /// Some entries have a wrong checksum or are missing.
    #[error("it is damaged or cut short; {used} undamaged entries are used")]
    Entries {
        /// Undamaged entries.
        used: u64,
    },
}

/// The contents of a file, and why a part of it could not be used.
pub(super) type Contents = (BTreeMap<Arc<str>, Snapshot>, Option<ReadError>);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are partitions, and there is one at a time"
)]
enum Line<'a> {
    /// The first one.
    State { version: u64 },
    Partition(
        /// The cluster.
        #[serde(borrow)]
        Cow<'a, str>,
        #[serde(borrow)] PartitionEntry<'a>,
    ),
    Service(
        /// The cluster.
        #[serde(borrow)]
        Cow<'a, str>,
        #[serde(borrow)] ServiceEntry<'a>,
    ),
    /// The checksum of a policy as it was computed before it covered all members. It is read and
    /// not used.
    #[serde(skip_serializing)]
    PolicyChecksum(IgnoredAny, IgnoredAny, IgnoredAny),
    /// Where the checksum of a policy is computed from other parts of it than before, this gets
    /// another name: a change would grant every partition another interval.
    PolicyContentChecksum(
        /// The cluster.
        #[serde(borrow)]
        Cow<'a, str>,
        /// The policy.
        #[serde(borrow)]
        Cow<'a, str>,
        u32,
    ),
    /// The last one.
    End { entries: u64 },
}

pub(super) fn write(clusters: &[Arc<Snapshot>], to: impl Write) -> io::Result<()> {
    let mut lines = Writer {
        to: BufWriter::new(to),
        json: Vec::new(),
        written: 0,
    };
    lines.write(&Line::State { version: VERSION })?;
    for snapshot in clusters {
        let cluster = || Cow::from(&*snapshot.cluster);
        for known in snapshot.partitions.values() {
            lines.write(&Line::Partition(cluster(), PartitionEntry::of(known)))?;
        }
        for (key, totals) in &snapshot.totals {
            lines.write(&Line::Service(cluster(), ServiceEntry::of(key, totals)))?;
        }
        for (name, mark) in &snapshot.policy_fingerprints {
            lines.write(&Line::PolicyContentChecksum(
                cluster(),
                (&**name).into(),
                *mark,
            ))?;
        }
    }
    let entries = lines.written - 1;
    lines.write(&Line::End { entries })?;
    lines.to.flush()
}

struct Writer<W: Write> {
    to: BufWriter<W>,
    json: Vec<u8>,
    written: u64,
}

impl<W: Write> Writer<W> {
    fn write(&mut self, line: &Line<'_>) -> io::Result<()> {
        self.json.clear();
        serde_json::to_writer(&mut self.json, line)?;
        write!(self.to, "{:08x} ", crc32fast::hash(&self.json))?;
        self.to.write_all(&self.json)?;
        self.written += 1;
        self.to.write_all(b"\n")
    }
}

/// Reads a state file of any version. An empty file, which exists so that it can be mounted,
/// remembers nothing.
pub(super) fn read(mut from: impl BufRead) -> Result<Contents, ReadError> {
    match from.fill_buf().map_err(ReadError::Read)?.first() {
        None => Ok((BTreeMap::new(), None)),
        Some(b'{') => read_document(from),
        Some(_) => read_lines(from),
    }
}

fn read_document(mut from: impl BufRead) -> Result<Contents, ReadError> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).map_err(ReadError::Read)?;
    match version_1::version(&bytes).map_err(ReadError::Decode)? {
        1 => Ok((version_1::decode(&bytes).map_err(ReadError::Decode)?, None)),
        other => Err(ReadError::Version(other)),
    }
}

fn read_lines(mut from: impl BufRead) -> Result<Contents, ReadError> {
    let mut buffer = Vec::new();
    next_line(&mut from, &mut buffer).map_err(ReadError::Read)?;
    match decode(&buffer) {
        Some(Line::State {
            version: VERSION | VERSION_2,
        }) => {}
        Some(Line::State { version }) => return Err(ReadError::Version(version)),
        _ => return Err(ReadError::Header),
    }
    let mut clusters: BTreeMap<Arc<str>, Cluster> = BTreeMap::new();
    let (mut used, mut damaged, mut expected) = (0, false, None);
    while next_line(&mut from, &mut buffer).map_err(ReadError::Read)? {
        match decode(&buffer) {
            // Behind the last line of a file that was written in place, there may be old ones.
            _ if expected.is_some() => damaged = true,
            None | Some(Line::State { .. }) => damaged = true,
            Some(Line::End { entries }) => expected = Some(entries),
            Some(Line::Partition(cluster, entry)) => {
                used += 1;
                of(&mut clusters, &cluster).take_partition(entry.restore());
            }
            Some(Line::Service(cluster, entry)) => {
                used += 1;
                let (key, totals) = entry.restore();
                let cluster = of(&mut clusters, &cluster);
                cluster.totals.entry(key).or_insert(totals);
            }
            Some(Line::PolicyChecksum(..)) => used += 1,
            Some(Line::PolicyContentChecksum(cluster, name, mark)) => {
                used += 1;
                let cluster = of(&mut clusters, &cluster);
                cluster.marks.entry(name.into()).or_insert(mark);
            }
        }
    }
    let is_whole = !damaged && expected == Some(used);
    let damage = (!is_whole).then_some(ReadError::Entries { used });
    let clusters = clusters.into_iter().map(|(name, cluster)| {
        let snapshot = cluster.into_snapshot(Arc::clone(&name));
        (name, snapshot)
    });
    Ok((clusters.collect(), damage))
}

/// Reads the next line, up to [`MAX_LINE`] bytes of it; `false` at the end of the file.
fn next_line(from: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<bool> {
    buffer.clear();
    let read = from.take(MAX_LINE).read_until(b'\n', buffer)?;
    if read > 0 && buffer.last() != Some(&b'\n') {
        from.skip_until(b'\n')?;
    }
    Ok(read > 0)
}

/// The entry in a line; `None` if it is damaged.
fn decode(line: &[u8]) -> Option<Line<'_>> {
    serde_json::from_slice(verified(line)?).ok()
}

/// The JSON of a line that has the right checksum.
fn verified(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_suffix(b"\n")?;
    let (checksum, json) = line.split_at_checked(8)?;
    let json = json.strip_prefix(b" ")?;
    let computed = format!("{:08x}", crc32fast::hash(json));
    (checksum == computed.as_bytes()).then_some(json)
}

/// What was read of one cluster. An entry that is there twice, which only an interrupted write
/// makes, counts as it is first read: that is the newer one.
#[derive(Default)]
struct Cluster {
    partitions: BTreeMap<PartitionId, PartitionSnapshot>,
    totals: BTreeMap<ServiceKey, ServiceTotals>,
    marks: BTreeMap<Name, u32>,
}

fn of<'a>(clusters: &'a mut BTreeMap<Arc<str>, Cluster>, name: &str) -> &'a mut Cluster {
    clusters.entry(name.into()).or_default()
}

impl Cluster {
    fn take_partition(&mut self, known: PartitionSnapshot) {
        self.partitions.entry(known.partition.id).or_insert(known);
    }

    fn into_snapshot(self, cluster: Arc<str>) -> Snapshot {
        let partitions = self.partitions.into_values().collect();
        Snapshot::restored(cluster, partitions, self.totals, self.marks)
    }
}
