//! A gateway with canned responses, for responses that the simulator does not produce.
//!
//! Lists a topology like a cluster. Every other response is the one of a cluster without backup
//! configuration, unless a test sets another one for a path.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use servicefabric_backup_exporter::clock;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// The last periodic backup of every partition, years ago.
const HEALTH: &str = include_str!("../samples/GetPartitionHealth.backup-ok.json");

/// A canned cluster on a free port.
pub(crate) struct Canned {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The partitions of each service of each application.
    topology: BTreeMap<String, BTreeMap<String, Vec<Uuid>>>,
    /// Responses by decoded path without a leading slash, with `/` between the levels of names.
    answers: BTreeMap<String, (u16, String)>,
    /// Number of requests per path.
    requests: BTreeMap<String, u64>,
    /// How far the clock of the gateway is ahead of the local one.
    skew: TimeDelta,
}

impl Canned {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state: Arc<Mutex<State>> = Arc::default();
        let served = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&served)));
            }
        });
        Self { url, state }
    }

    /// Adds a service `application/name` with a number of partitions, and its application.
    pub(crate) fn add(&self, application: &str, name: &str, partitions: usize) -> Vec<Uuid> {
        let mut state = self.state.lock().unwrap();
        let known = state.topology.values().flat_map(BTreeMap::values).flatten();
        let known = known.count();
        let ids = (known..known + partitions).map(|number| {
            // The order of ids is not that of the services.
            let mixed = (number as u128 + 1) * 0x9e37_79b9_7f4a_7c15;
            Uuid::from_u128(((mixed % (1 << 64)) << 64) | number as u128)
        });
        let ids: Vec<Uuid> = ids.collect();
        let services = state.topology.entry(application.to_owned()).or_default();
        services.insert(format!("{application}/{name}"), ids.clone());
        ids
    }

    /// Sets the response for a path, such as `Applications/App/$/GetServices`, until [`Self::reset`].
    pub(crate) fn set(&self, path: impl Into<String>, status: u16, body: impl Borrow<Value>) {
        let answer = (status, body.borrow().to_string());
        let mut state = self.state.lock().unwrap();
        state.answers.insert(path.into(), answer);
    }

    /// Removes all responses that were set.
    pub(crate) fn reset(&self) {
        self.state.lock().unwrap().answers.clear();
    }

    /// Sets the clock of the gateway ahead by `skew`.
    pub(crate) fn set_skew(&self, skew: TimeDelta) {
        self.state.lock().unwrap().skew = skew;
    }

    /// The time of the gateway.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        clock::now() + self.state.lock().unwrap().skew
    }

    /// Number of requests for paths with this suffix since the last call.
    pub(crate) fn take_requests(&self, end: &str) -> BTreeMap<String, u64> {
        let mut state = self.state.lock().unwrap();
        let all = std::mem::take(&mut state.requests);
        let (taken, rest) = all.into_iter().partition(|(path, _)| path.ends_with(end));
        state.requests = rest;
        taken
    }
}

/// An error body.
pub(crate) fn refusal(code: impl Into<Value>, message: &str) -> Value {
    json!({"Error": {"Code": code.into(), "Message": message}})
}

/// A list of one page.
pub(crate) fn page(items: impl IntoIterator<Item = Value>) -> Value {
    json!({"ContinuationToken": null, "Items": items.into_iter().collect::<Vec<_>>()})
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut stream = BufStream::new(stream);
    while let Some(path) = read_path(&mut stream).await {
        let ((status, body), skew) = {
            let mut state = state.lock().unwrap();
            *state.requests.entry(path.clone()).or_default() += 1;
            (state.answer(&path), state.skew)
        };
        let date = (clock::now() + skew).format("%a, %d %b %Y %H:%M:%S GMT");
        let head = format!(
            "HTTP/1.1 {status} Canned\r\nDate: {date}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let answer = [head.as_bytes(), body.as_bytes()].concat();
        if stream.write_all(&answer).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// The path of the next request.
async fn read_path(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = stream.read_line(&mut head).await.ok()?;
        if read == 0 {
            return None;
        }
    }
    let target = head.split(' ').nth(1).unwrap();
    let path = target.split('?').next().unwrap();
    let path = percent_decode_str(path).decode_utf8().unwrap();
    Some(path.trim_start_matches('/').replace('~', "/"))
}

impl State {
    fn answer(&self, path: &str) -> (u16, String) {
        if let Some(answer) = self.answers.get(path) {
            return answer.clone();
        }
        let (entity, operation) = path.rsplit_once("/$/").unwrap_or(("", path));
        let name = entity
            .split_once('/')
            .map(|(_, id)| format!("fabric:/{id}"));
        let name = name.unwrap_or_default();
        let body = match operation {
            "$/GetClusterVersion" => json!({"Version": "6.4.514.9494"}),
            "Applications" => page(self.topology.keys().map(|name| json!({"Name": name}))),
            "GetServices" => self.services(&name),
            "GetPartitions" => self.partitions(&name),
            "GetServiceName" => self.service_name(entity),
            "GetApplicationName" => self.application_name(&name),
            "GetHealth" => return (200, HEALTH.to_owned()),
            "GetBackupProgress" | "GetRestoreProgress" => Value::Null,
            "BackupRestore/BackupPolicies" => page(["Hourly", "Daily"].map(policy)),
            "GetBackupEnabledEntities" => page([]),
            "GetBackupConfigurationInfo" if entity.starts_with("Partitions/") => Value::Null,
            "GetBackupConfigurationInfo" | "GetBackups" => {
                let refusal = refusal("FABRIC_E_BACKUP_NOT_ENABLED", "Not enabled.");
                return (404, refusal.to_string());
            }
            _ => return (400, refusal("E_INVALIDARG", "No such route.").to_string()),
        };
        (200, body.to_string())
    }

    fn services(&self, application: &str) -> Value {
        let services = self.topology.get(application).into_iter().flatten();
        page(services.map(
            |(name, _)| json!({"Name": name, "ServiceKind": "Stateful", "HasPersistedState": true}),
        ))
    }

    fn partitions(&self, service: &str) -> Value {
        let services = self.topology.values().flatten();
        let mut ids = services.filter(|(name, _)| *name == service);
        let ids = ids.next().into_iter().flat_map(|(_, ids)| ids);
        page(ids.map(|id| {
            let information = json!({"ServicePartitionKind": "Singleton", "Id": id});
            json!({"ServiceKind": "Stateful", "PartitionInformation": information})
        }))
    }

    fn service_name(&self, entity: &str) -> Value {
        let mut services = self.topology.values().flatten();
        let of = services.find(|(_, ids)| ids.iter().any(|id| entity.ends_with(&id.to_string())));
        json!({"Name": of.map(|(name, _)| name)})
    }

    fn application_name(&self, service: &str) -> Value {
        let mut applications = self.topology.iter();
        let of = applications.find(|(_, services)| services.contains_key(service));
        json!({"Name": of.map(|(name, _)| name)})
    }
}

fn policy(name: &str) -> Value {
    let interval = if name == "Daily" { "P1D" } else { "PT1H" };
    json!({
        "Name": name, "AutoRestoreOnDataLoss": false, "MaxIncrementalBackups": 0,
        "Schedule": {"ScheduleKind": "FrequencyBased", "Interval": interval},
        "Storage": {"StorageKind": "FileShare", "FriendlyName": "share", "Path": r"\\storage\share"},
    })
}
