//! Malformed items in responses.
//!
//! Replaces a property in the last item of a list, or in a response that is not a list; a response
//! without that property is unchanged. Works on rendered bytes because some malformations have no
//! JSON value.

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

/// Placeholder for bytes that no JSON value can hold.
const PLACEHOLDER: &str = "-malformed-";

/// Malformation of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformation {
    /// The interval of a schedule is the number 3600.
    NumericInterval,
    /// `SuspensionInfo` is an empty object.
    EmptySuspensionInfo,
    /// Ids of backups and partitions are the zero GUID.
    ZeroGuid,
    /// An LSN does not fit 63 bits: 9223372036854775808.
    HugeLsn,
    /// Times are the empty string.
    EmptyTime,
    /// A listed backup carries an error instead of null.
    FailureError,
    /// Free text ends in one half of a surrogate pair.
    LoneSurrogate,
    /// Free text ends in a byte that is not UTF-8.
    InvalidUtf8,
}

impl Malformation {
    /// Returns the body with its last item malformed.
    pub(super) fn corrupt(self, body: &Bytes) -> Bytes {
        let Ok(mut json) = serde_json::from_slice::<Value>(body) else {
            return body.clone();
        };
        let list = ["Items", "HealthEvents"]
            .into_iter()
            .find(|key| json[*key].is_array());
        match list.and_then(|key| json[key].as_array_mut()) {
            Some(items) => items.last_mut().into_iter().for_each(|it| self.replace(it)),
            None => self.replace(&mut json),
        }
        let text = json.to_string().into_bytes();
        match self {
            Self::LoneSurrogate => substitute(&text, br"\ud800"),
            Self::InvalidUtf8 => substitute(&text, &[0xff]),
            _ => text,
        }
        .into()
    }

    fn replace(self, value: &mut Value) {
        let Value::Object(object) = value else {
            return;
        };
        for (key, value) in object {
            match self.replacement(key, value) {
                Some(replacement) => *value = replacement,
                None => self.replace(value),
            }
        }
    }

    fn replacement(self, key: &str, value: &Value) -> Option<Value> {
        match (self, key) {
            (Self::NumericInterval, "Interval") => Some(json!(3600)),
            (Self::EmptySuspensionInfo, "SuspensionInfo") => Some(json!({})),
            (Self::ZeroGuid, "BackupId" | "PartitionId" | "Id") => {
                value.as_str()?.parse::<Uuid>().ok()?;
                Some(json!(Uuid::nil()))
            }
            (Self::HugeLsn, "LsnOfLastBackupRecord") => Some(json!("9223372036854775808")),
            (Self::FailureError, "FailureError") => Some(json!({
                "Code": "FABRIC_E_BACKUPCOPIER_UNEXPECTED_ERROR",
                "Message": "An error occurred during this operation.",
            })),
            (Self::EmptyTime, "CreationTimeUtc" | "TimeStampUtc" | "SourceUtcTimestamp") => {
                Some(json!(""))
            }
            (
                Self::LoneSurrogate | Self::InvalidUtf8,
                "FriendlyName" | "BackupLocation" | "Description" | "Message",
            ) => Some(json!(format!("{}{PLACEHOLDER}", value.as_str()?))),
            _ => None,
        }
    }
}

fn substitute(text: &[u8], by: &[u8]) -> Vec<u8> {
    let mut rest = text;
    let mut written = Vec::with_capacity(text.len());
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(PLACEHOLDER.as_bytes()) {
            written.extend_from_slice(by);
            rest = after;
        } else {
            written.push(byte);
            rest = after;
        }
    }
    written
}
