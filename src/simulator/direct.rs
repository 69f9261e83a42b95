//! Responses of the gateway without a network.
//!
//! Renders one response for an address at a given time, for simulations of months. Injects no
//! faults, authorizes every request and reads no clock.

use chrono::{DateTime, Utc};
use hyper::{Method, Uri};

use super::access::Role;
use super::estate::Estate;
use super::options::Options;
use super::request::Request;
use super::routes::{self, Paging, ResponseSettings};

impl Options {
    /// Status and body of the response to a GET of `address` at `now`. Does not advance the estate:
    /// call [`Estate::tick`] first.
    ///
    /// # Panics
    ///
    /// Never: the headers of the simulator are valid.
    pub fn answer(&self, estate: &mut Estate, address: &Uri, now: DateTime<Utc>) -> (u16, Vec<u8>) {
        let request = Request::parse(&Method::GET, address);
        let settings = ResponseSettings {
            switches: &self.switches,
            cluster_version: &self.cluster_version,
            on_demand: &self.on_demand,
            restore: &self.restore,
            backup_service: true,
            paging: Paging::Normal,
            access: &self.access,
            role: Role::Admin,
        };
        let answer = routes::answer(estate, &request, &settings, now);
        let (head, body) = answer.render(&self.switches);
        let head = head.body(()).expect("the simulator writes valid headers");
        (head.status().as_u16(), body.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_status_and_the_bytes_of_the_route() {
        let now = DateTime::from_timestamp(1_750_000_000, 0).unwrap();
        let mut estate = Estate::empty(1, now);
        let mut answer = |address: &str| {
            let address = address.parse().unwrap();
            let (status, body) = Options::default().answer(&mut estate, &address, now);
            (status, String::from_utf8(body).unwrap())
        };
        let (status, body) = answer("http://c/Applications?api-version=6.1");
        assert_eq!(
            (status, &*body),
            (200, r#"{"ContinuationToken":"","Items":[]}"#)
        );
        assert_eq!(answer("http://c/Nowhere?api-version=6.1").0, 400);
    }
}
