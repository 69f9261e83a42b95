//! The client without its network: the simulated cluster answers its addresses with bytes.
//!
//! Responsible for asking and decoding one answer. It must not keep any.

use std::time::Duration;

use hyper::Uri;
use servicefabric_backup_exporter::gateway::Error;
use servicefabric_backup_exporter::gateway::wire::{Page, Query, Subject};
use servicefabric_backup_exporter::model::DecodedList;
use servicefabric_backup_exporter::simulator::Options;
use url::Url;

use super::answers::Question;
use super::time::moment;

/// Time left for a request, as a URL states it.
const REMAINING: Duration = Duration::from_secs(10);

/// A client of a cluster that is a function from a URL to status and body of the response.
pub(crate) struct Client<'a> {
    endpoint: &'a Url,
    respond: &'a mut dyn FnMut(&Url) -> (u16, Vec<u8>),
}

impl Client<'_> {
    pub(crate) fn get<T>(&mut self, query: &Query<T>, subject: Subject<'_>) -> Result<T, Error> {
        self.page(query, &subject, None)
    }

    pub(crate) fn get_all<T>(
        &mut self,
        query: &Query<Page<T>>,
        subject: Subject<'_>,
    ) -> Result<DecodedList<T>, Error> {
        let mut listed = DecodedList {
            items: Vec::new(),
            skipped: 0,
        };
        let mut token: Option<String> = None;
        loop {
            let page = self.page(query, &subject, token.as_deref())?;
            listed.items.extend(page.items);
            listed.skipped += page.skipped;
            match page.next {
                None => return Ok(listed),
                next => {
                    assert_ne!(next, token, "the simulator repeats a continuation token");
                    token = next;
                }
            }
        }
    }

    fn page<T>(
        &mut self,
        query: &Query<T>,
        subject: &Subject<'_>,
        token: Option<&str>,
    ) -> Result<T, Error> {
        let url = query.url(self.endpoint, subject, token, REMAINING);
        let (status, body) = (self.respond)(&url);
        query.decode(self.endpoint, subject, status, &body)
    }
}

#[derive(Debug)]
pub(crate) struct Wire {
    options: Options,
    endpoint: Url,
}

impl Wire {
    pub(crate) fn new() -> Self {
        Self {
            options: Options::default(),
            endpoint: "http://cluster:19080".parse().expect("it is a URL"),
        }
    }

    pub(crate) fn ask<T>(
        &self,
        it: &mut Question<'_>,
        read: impl FnOnce(&mut Client<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let malforms = it.weather.malformed.strikes(it.now);
        let mut answer = |url: &Url| {
            let address: Uri = url.as_str().parse().expect("a URL is a URI");
            let estate = &mut it.world.estate;
            let (status, body) = self.options.answer(estate, &address, moment(it.now));
            match malformed_item(url.path()).filter(|_| malforms) {
                Some(item) => (status, with_item(body, item)),
                None => (status, body),
            }
        };
        read(&mut Client {
            endpoint: &self.endpoint,
            respond: &mut answer,
        })
    }

    /// Decodes an answer that the cluster does not mean.
    pub(crate) fn misread<T>(
        &self,
        (status, body): (u16, &str),
        read: impl FnOnce(&mut Client<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut answer = |_: &Url| (status, body.as_bytes().to_vec());
        read(&mut Client {
            endpoint: &self.endpoint,
            respond: &mut answer,
        })
    }
}

/// An item that violates the schema of a list, if the backup service answers it.
fn malformed_item(path: &str) -> Option<&'static str> {
    if path.ends_with("/BackupPolicies") {
        return Some(
            r#"{"Name":"Odd","Schedule":{"ScheduleKind":"FrequencyBased","Interval":3600}}"#,
        );
    }
    path.ends_with("/GetBackups")
        .then_some(r#"{"BackupId":"x","PartitionInformation":{"Id":"x"},"CreationTimeUtc":""}"#)
}

/// A list with one more item at its beginning.
fn with_item(body: Vec<u8>, item: &str) -> Vec<u8> {
    const ITEMS: &str = r#""Items":["#;
    let text = String::from_utf8(body).expect("the simulator writes UTF-8");
    let text = if text.contains(r#""Items":[]"#) {
        text.replacen(ITEMS, &format!("{ITEMS}{item}"), 1)
    } else {
        text.replacen(ITEMS, &format!("{ITEMS}{item},"), 1)
    };
    text.into_bytes()
}
