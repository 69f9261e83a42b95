//! Reads JSON the way Service Fabric writes it.
//!
//! Numbers are sent as numbers or strings; absent values as null, an empty body or a sentinel
//! (year 1, the zero GUID, a negative number). Anything else is an error: no value is invented. An
//! error is confined to the [`Field`] or the element of [`Items`] that contains it.

mod error;
mod items;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::LazyLock;

use chrono::{DateTime, Datelike, NaiveDateTime, Utc};
pub(super) use items::Items;
use regex::{Captures, Regex};
use serde::de::{
    self, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor, value,
};
use serde::{Deserialize, de::Error as _};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::model::FailureCode;
pub(super) use error::DecodeError;

/// Reads a whole body; `None` when it is empty or `null`.
pub(super) fn document<T: DeserializeOwned>(body: &[u8]) -> Result<Option<T>, DecodeError> {
    let text = legible(without_padding(body));
    if text.is_empty() {
        return Ok(None);
    }
    match serde_json::from_str::<Option<Object<T>>>(&text) {
        Ok(document) => Ok(document.map(|object| object.0)),
        Err(error) => Err(misread(&error)),
    }
}

/// The body without byte order mark and white space around it.
pub(super) fn without_padding(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF")
        .unwrap_or(body)
        .trim_ascii()
}

/// `body` as text. Bytes that are no UTF-8, and escapes of half a surrogate pair, become U+FFFD:
/// JSON has no place for them, and .NET writes the latter where it cut a message inside a
/// character.
fn legible(body: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(body);
    if !text.contains("\\ud") && !text.contains("\\uD") {
        return text;
    }
    let repaired = |captures: &Captures<'_>| match captures.name("half") {
        Some(_) => REPLACEMENT.to_owned(),
        None => captures
            .get(0)
            .map_or("", |whole| whole.as_str())
            .to_owned(),
    };
    Cow::Owned(ESCAPE.replace_all(&text, repaired).into_owned())
}

/// The escape of U+FFFD, which is as long as the one that it replaces.
const REPLACEMENT: &str = r"\ufffd";

/// An escape of JSON: a surrogate pair, half of one, or another one.
static ESCAPE: LazyLock<Regex> = LazyLock::new(|| {
    let pair = r"\\u[dD][89abAB][[:xdigit:]]{2}\\u[dD][c-fC-F][[:xdigit:]]{2}";
    let half = r"(?P<half>\\u[dD][89a-fA-F][[:xdigit:]]{2})";
    Regex::new(&format!("(?s){pair}|{half}|\\\\."))
        .expect("the pattern is fixed, and the tests here compile it")
});

/// Keeps the place and drops the text: serde quotes what it found, which may be a secret.
fn misread(error: &serde_json::Error) -> DecodeError {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        serde_json::error::Category::Eof => DecodeError::UnexpectedEnd,
        serde_json::error::Category::Data => DecodeError::Structure { line, column },
        _ => DecodeError::Syntax { line, column },
    }
}

/// A `T` out of a JSON object. Serde by itself would fill a struct from an array as well.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(value::MapAccessDeserializer::new(map)).map(Object)
    }
}

/// A member of an object. One that cannot be read does not affect its neighbours.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Field<T> {
    /// Missing, or null.
    #[default]
    Absent,
    /// Present, but malformed.
    Unreadable,
    /// Present and valid.
    Value(T),
}

impl<T> Field<T> {
    /// The value of an optional member: one that cannot be read is absent.
    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Unreadable => None,
        }
    }

    /// The value of an optional member; a malformed one is an error.
    pub(super) fn readable(self) -> Result<Option<T>, DecodeError> {
        match self {
            Self::Value(value) => Ok(Some(value)),
            Self::Absent => Ok(None),
            Self::Unreadable => Err(DecodeError::Member),
        }
    }

    /// The value of a required member.
    pub(super) fn required(self) -> Result<T, DecodeError> {
        self.value().ok_or(DecodeError::Member)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(match serde_json::from_str::<Option<T>>(raw.get()) {
            Ok(Some(value)) => Self::Value(value),
            Ok(None) => Self::Absent,
            Err(_) => Self::Unreadable,
        })
    }
}

/// The JSON text of a scalar. Arrays and objects are skipped and read as null.
pub(super) struct ScalarText(pub(super) String);

impl Default for ScalarText {
    fn default() -> Self {
        Self(Value::Null.to_string())
    }
}

impl<'de> Deserialize<'de> for ScalarText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarTextVisitor)
    }
}

struct ScalarTextVisitor;

impl<'de> Visitor<'de> for ScalarTextVisitor {
    type Value = ScalarText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ScalarText, E> {
        Ok(ScalarText(Value::from(text).to_string()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<ScalarText, E> {
        Ok(ScalarText(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<ScalarText, E> {
        Ok(ScalarText(number.to_string()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<ScalarText, E> {
        Ok(ScalarText(number.to_string()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<ScalarText, E> {
        Ok(ScalarText(Value::from(number).to_string()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<ScalarText, E> {
        Ok(ScalarText::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, array: A) -> Result<ScalarText, A::Error> {
        IgnoredAny.visit_seq(array)?;
        Ok(ScalarText::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ScalarText, A::Error> {
        IgnoredAny.visit_map(map)?;
        Ok(ScalarText::default())
    }
}

/// A 64-bit number, as a number or as a string.
#[derive(Clone, Copy, Debug)]
pub(super) struct Integer(i64);

impl Integer {
    /// The number; `None` for the negative ones, which mean "unknown".
    pub(super) fn known(self) -> Option<u64> {
        u64::try_from(self.0).ok()
    }
}

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Number(number) => Ok(Self(number)),
            Scalar::Text(text) => text
                .parse()
                .map(Self)
                .map_err(|_| D::Error::custom("not a 64-bit number")),
        }
    }
}

/// An error code: a symbolic name if the service has one, otherwise a number.
#[derive(Debug)]
pub(super) struct Code(pub(super) FailureCode);

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Scalar::deserialize(deserializer)? {
            Scalar::Number(number) => FailureCode::from_number(number),
            Scalar::Text(text) => FailureCode::from_text(&text),
        }))
    }
}

/// A signed 64-bit number or a string; no float.
enum Scalar {
    Number(i64),
    Text(String),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a 64-bit number or a string")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
        i64::try_from(number)
            .map(Scalar::Number)
            .map_err(|_| E::custom("more than 63 bits"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }
}

/// A point in time; `None` for the sentinels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timestamp(pub(super) Option<DateTime<Utc>>);

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = point_in_time(&text).ok_or_else(|| D::Error::custom("not a time"))?;
        // Year 1 in any time zone, and the zero of FILETIME in 1601.
        Ok(Self((time.year() > 1970).then_some(time)))
    }
}

/// RFC 3339; without an offset it is taken to be UTC.
pub(super) fn point_in_time(text: &str) -> Option<DateTime<Utc>> {
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => Some(time.to_utc()),
        Err(_) => NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
            .ok()
            .map(|time| time.and_utc()),
    }
}

/// A GUID; `None` for the zero GUID.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guid(pub(super) Option<Uuid>);

impl<'de> Deserialize<'de> for Guid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let guid = Uuid::try_parse(&text).map_err(|_| D::Error::custom("not a GUID"))?;
        Ok(Self((!guid.is_nil()).then_some(guid)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;

    use super::*;

    fn directory() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/samples")
    }

    /// The body of a sample.
    pub(in crate::gateway) fn sample(file: &str) -> Vec<u8> {
        std::fs::read(directory().join(file)).unwrap()
    }

    /// Names of the samples that begin with `prefix`, sorted.
    pub(in crate::gateway) fn samples(prefix: &str) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(directory())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with(prefix))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn text_that_json_cannot_hold_costs_no_more_than_itself() {
        #[derive(Deserialize)]
        struct Message {
            text: String,
        }
        let read = |text: &[u8]| {
            let body = [b"{\"text\":\"", text, b"\"}"].concat();
            document::<Message>(&body).unwrap().unwrap().text
        };
        for (text, expected) in [
            (r"a\ud800b", "a\u{fffd}b"),
            (r"a\uDFFFb", "a\u{fffd}b"),
            (r"\ud800\ud83d\ude00", "\u{fffd}\u{1f600}"),
            (r"\ude00\ud83d", "\u{fffd}\u{fffd}"),
            (r"\ud83d\u0041", "\u{fffd}A"),
            (r"C:\\ud800\n\u00fc", "C:\\ud800\n\u{fc}"),
            (r"\\\ud800", "\\\u{fffd}"),
        ] {
            assert_eq!(read(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(read(b"a\xFFb\xC3\xBC"), "a\u{fffd}b\u{fc}");
        assert_eq!(read(b"\xED\xA0\x80"), "\u{fffd}".repeat(3));
    }

    #[test]
    fn a_member_that_cannot_be_read_does_not_affect_its_neighbours() {
        #[derive(Deserialize)]
        struct Pair {
            #[serde(default)]
            first: Field<Integer>,
            second: String,
        }
        for first in [
            "null",
            "true",
            "1.5",
            "1e400",
            "\"\"",
            "\"x\"",
            "[]",
            "[[{}]]",
            "{}",
            "9223372036854775808",
        ] {
            let body = format!("{{\"first\":{first},\"second\":\"s\"}}");
            let pair = document::<Pair>(body.as_bytes()).unwrap().unwrap();
            assert_eq!(pair.second, "s", "{first}");
            let is_null = first == "null";
            assert_eq!(pair.first.readable().is_ok(), is_null, "{first}");
            assert!(pair.first.value().is_none() && pair.first.required().is_err());
        }
        let deep = format!(
            "{{\"first\":{}{},\"second\":\"s\"}}",
            "[".repeat(9_999),
            "]".repeat(9_999)
        );
        assert_eq!(
            document::<Pair>(deep.as_bytes()).unwrap().unwrap().second,
            "s"
        );
        let good = document::<Pair>(b"{\"first\":\"7\",\"second\":\"s\"}")
            .unwrap()
            .unwrap();
        assert_eq!(good.first.required().unwrap().known(), Some(7));
    }

    fn time(json: &str) -> serde_json::Result<Option<String>> {
        let time: Timestamp = serde_json::from_str(json)?;
        Ok(time.0.map(|time| time.to_rfc3339()))
    }

    #[test]
    fn numbers_come_as_numbers_or_strings() {
        for (json, number) in [
            ("36", Some(36)),
            ("\"261\"", Some(261)),
            ("9223372036854775807", Some(9_223_372_036_854_775_807)),
            ("-1", None),
            ("\"-9223372036854775808\"", None),
        ] {
            let read: Integer = serde_json::from_str(json).unwrap();
            assert_eq!(read.known(), number, "{json}");
        }
        for json in [
            "36.0",
            "1e3",
            "\"36.0\"",
            "\"\"",
            "\" 36\"",
            "\"0x24\"",
            "9223372036854775808",
            "\"9223372036854775808\"",
            "true",
            "[36]",
            "{}",
            "null",
        ] {
            assert!(serde_json::from_str::<Integer>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn times_come_with_or_without_fraction_and_offset() {
        for (json, utc) in [
            ("\"2018-11-21T20:00:01Z\"", "2018-11-21T20:00:01+00:00"),
            ("\"2018-11-21T20:00:01\"", "2018-11-21T20:00:01+00:00"),
            ("\"2018-11-21T20:00:01.5\"", "2018-11-21T20:00:01.500+00:00"),
            (
                "\"2018-11-21T20:00:01.1234567Z\"",
                "2018-11-21T20:00:01.123456700+00:00",
            ),
            (
                "\"2018-11-21T20:00:01.123+02:00\"",
                "2018-11-21T18:00:01.123+00:00",
            ),
        ] {
            assert_eq!(time(json).unwrap().as_deref(), Some(utc), "{json}");
        }
    }

    #[test]
    fn times_of_1970_and_before_are_absent() {
        for json in [
            "\"0001-01-01T00:00:00Z\"",
            "\"0001-01-01T00:00:00\"",
            "\"0001-01-01T00:00:00.000Z\"",
            "\"0001-01-01T08:00:00Z\"",
            "\"0001-01-01T00:00:00+14:00\"",
            "\"1601-01-01T00:00:00Z\"",
            "\"1970-01-01T00:00:00Z\"",
        ] {
            assert_eq!(time(json).unwrap(), None, "{json}");
        }
    }

    #[test]
    fn invalid_times_are_errors() {
        for json in [
            "\"\"",
            "\"yesterday\"",
            "\"2018-11-21\"",
            "\"2018-02-30T00:00:00Z\"",
            "\"2018-11-21T25:00:00\"",
            "\"2018-11-21T20:00:01ZZ\"",
            "1542830401",
            "null",
        ] {
            assert!(time(json).is_err(), "{json}");
        }
    }

    #[test]
    fn the_zero_guid_is_absent_and_garbage_is_an_error() {
        let read = |json| serde_json::from_str::<Guid>(json).map(|guid| guid.0);
        assert_eq!(
            read("\"00000000-0000-0000-0000-000000000000\"").unwrap(),
            None
        );
        assert!(
            read("\"5D64B697-6ACD-45A4-ADBD-3D75E0078081\"")
                .unwrap()
                .is_some()
        );
        for json in ["\"\"", "\"5d64b697\"", "null", "0"] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    #[test]
    fn deeply_nested_bodies_are_errors() {
        #[derive(Deserialize)]
        struct Any {
            #[serde(default)]
            known: ScalarText,
        }
        for opening in ["[", "{\"known\":", "{\"other\":", "[{\"known\":["] {
            let nested = opening.repeat((4 << 20) / opening.len());
            for body in [
                nested.clone(),
                format!("{{\"known\":{nested}"),
                format!("{{\"x\":{nested}"),
            ] {
                let read = document::<Any>(body.as_bytes());
                assert!(read.is_err(), "{opening}");
            }
        }
        let flat = document::<Any>(b"{\"known\":[[1],{\"a\":[]}]}")
            .unwrap()
            .unwrap();
        assert_eq!(flat.known.0, "null");
    }

    #[test]
    fn scalars_keep_their_text() {
        for text in [
            "\"a\\\"b\"",
            "true",
            "-5",
            "18446744073709551615",
            "1.5",
            "null",
        ] {
            let scalar: ScalarText = serde_json::from_str(text).unwrap();
            assert_eq!(scalar.0, text);
        }
    }

    #[test]
    fn an_array_is_not_an_object() {
        #[derive(Debug, Deserialize)]
        struct Pair {
            _first: i64,
        }
        assert!(matches!(
            document::<Pair>(b"[1]"),
            Err(DecodeError::Structure { .. })
        ));
        assert!(
            document::<Pair>(b"\xEF\xBB\xBF{\"_first\":1} ")
                .unwrap()
                .is_some()
        );
        for nothing in [&b""[..], b"\xEF\xBB\xBF", b" \r\n", b"null"] {
            assert!(document::<Pair>(nothing).unwrap().is_none());
        }
        assert_eq!(
            document::<Pair>(b"{\"_first\":").unwrap_err(),
            DecodeError::UnexpectedEnd
        );
    }
}
