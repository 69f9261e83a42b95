//! The routes of the gateway: for each, its address, its reply and the translation into the model.
//!
//! One [`Query`] per route, in a file per answering system. Nothing else in the crate contains a
//! path, an API version or a JSON key. Ids come from names, never from the `Id` of a reply: runtimes
//! disagree about its spelling.

mod backups;
mod configuration;
mod directory;
mod error;
mod error_reply;
mod health;
mod native;
mod page;
mod policy;
mod progress;
mod query;
mod route;
mod schedule;

pub use backups::{ALL_BACKUPS, LATEST_BACKUPS, PARTITION_BACKUPS};
pub use configuration::{APPLICATION_CONFIGURATIONS, ENTITIES_OF_POLICY, PARTITION_CONFIGURATION};
pub(super) use directory::{AAD_METADATA, NamedDirectory};
pub(super) use error::ReplyError;
pub(super) use error_reply::ErrorReply;
#[cfg(test)]
pub(super) use error_reply::classify;
pub use health::PARTITION_HEALTH;
pub use native::{
    APPLICATION_NAME, APPLICATIONS, CLUSTER_VERSION, PARTITIONS, SERVICE_NAME, SERVICES,
};
pub use page::Page;
pub use policy::POLICIES;
pub use progress::{BACKUP_PROGRESS, RESTORE_PROGRESS};
pub use query::Query;
pub use route::Subject;
pub(super) use route::{CallClass, Route, RouteKind, Side};

#[cfg(test)]
mod damage;

#[cfg(test)]
pub(in crate::gateway) mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::gateway::decode::tests::{sample, samples};
    use crate::gateway::decode::without_padding;
    use crate::gateway::reason::Reason;
    use crate::model::{
        BackupProgress, BackupState, Epoch, Failure, FailureCode, PartitionKind, RestoreProgress,
        RestoreState,
    };

    pub(super) fn answer<T>(query: &Query<T>, body: impl AsRef<[u8]>) -> Result<T, ReplyError> {
        query.read(&Subject::Cluster, 200, body.as_ref())
    }

    fn progress(body: impl AsRef<[u8]>) -> Result<Option<BackupProgress>, ReplyError> {
        answer(&BACKUP_PROGRESS, body)
    }

    pub(super) fn guid(text: &str) -> Uuid {
        text.parse().unwrap()
    }

    fn without_success(state: BackupState) -> BackupProgress {
        BackupProgress {
            state,
            timestamp: None,
            backup_id: None,
            epoch: None,
            lsn: None,
            failure: None,
        }
    }

    fn success(time: &str, id: &str, data_loss: u64, lsn: u64) -> BackupProgress {
        BackupProgress {
            state: BackupState::Success,
            timestamp: Some(time.parse().unwrap()),
            backup_id: Some(guid(id)),
            epoch: Some(Epoch {
                data_loss_version: Some(data_loss),
                configuration_version: Some(8_589_934_592),
            }),
            lsn: Some(lsn),
            failure: None,
        }
    }

    fn failure(state: BackupState, code: &str, message: &str) -> BackupProgress {
        BackupProgress {
            failure: Some(Failure {
                code: FailureCode::from_text(code),
                message: Some(message.into()),
            }),
            ..without_success(state)
        }
    }

    #[test]
    fn every_progress_sample_is_read() {
        let wire = success(
            "2018-11-21T20:00:01Z",
            "5d64b697-6acd-45a4-adbd-3d75e0078081",
            131_873_018_908_156_893,
            36,
        );
        let spec = success(
            "2018-01-01T09:00:55Z",
            "3a056ac9-7206-43c3-8424-6f6103003eba",
            131_462_452_931_584_510,
            261,
        );
        let unsupported = "The method or operation is not supported for this state provider.";
        let late = "The request of backup has timed out.";
        let mut expected = vec![
            ("accepted", Some(without_success(BackupState::Accepted))),
            (
                "failure.numeric-code",
                Some(failure(BackupState::Failure, "0x80131500", unsupported)),
            ),
            (
                "in-progress",
                Some(without_success(BackupState::BackupInProgress)),
            ),
            ("never", None),
            (
                "sentinel-local-tz",
                Some(without_success(BackupState::Accepted)),
            ),
            ("success.preview-epoch-keys", Some(wire.clone())),
            ("success.spec", Some(spec)),
            ("success.wire", Some(wire)),
            (
                "timeout",
                Some(failure(BackupState::Timeout, "FABRIC_E_TIMEOUT", late)),
            ),
        ];
        for (name, expected) in &expected {
            let body = sample(&format!("GetPartitionBackupProgress.{name}.json"));
            assert_eq!(&progress(body).unwrap(), expected, "{name}");
        }
        let failed = progress(sample("GetPartitionBackupProgress.failure.json"))
            .unwrap()
            .unwrap();
        assert_eq!(
            failed.failure.as_ref().map(|failure| failure.code.as_str()),
            Some("FABRIC_E_BACKUPCOPIER_UNEXPECTED_ERROR")
        );
        expected.push(("failure", Some(failed)));
        let read = progress(sample("GetPartitionBackupProgress.success.actor.json"));
        let of_an_actor = read.unwrap().unwrap();
        assert_eq!(of_an_actor.state, BackupState::Success);
        assert!(of_an_actor.timestamp.is_some() && of_an_actor.backup_id.is_some());
        let unknown = Epoch {
            data_loss_version: None,
            configuration_version: None,
        };
        assert_eq!((of_an_actor.epoch, of_an_actor.lsn), (Some(unknown), None));
        expected.push(("success.actor", Some(of_an_actor)));
        assert_eq!(samples("GetPartitionBackupProgress.").len(), expected.len());
    }

    #[test]
    fn every_restore_sample_is_read() {
        let expected = [
            ("accepted", Some((RestoreState::Accepted, None))),
            ("accepted.capture", Some((RestoreState::Accepted, None))),
            ("failure", Some((RestoreState::Failure, None))),
            ("in-progress", Some((RestoreState::RestoreInProgress, None))),
            ("never", None),
            (
                "secondaries-in-progress",
                Some((RestoreState::SecondariesInProgress, None)),
            ),
            (
                "success.spec",
                Some((RestoreState::Success, Some("2018-01-01T09:00:55Z"))),
            ),
            (
                "success.wire",
                Some((RestoreState::Success, Some("2018-11-22T11:22:33Z"))),
            ),
            ("timeout", Some((RestoreState::Timeout, None))),
        ];
        assert_eq!(
            samples("GetPartitionRestoreProgress.").len(),
            expected.len()
        );
        for (name, expected) in expected {
            let body = sample(&format!("GetPartitionRestoreProgress.{name}.json"));
            let expected = expected.map(|(state, time)| RestoreProgress {
                state,
                timestamp: time.map(|time| time.parse().unwrap()),
            });
            assert_eq!(answer(&RESTORE_PROGRESS, body).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn a_malformed_restore_is_an_error_and_an_unknown_state_is_not() {
        let read = answer(&RESTORE_PROGRESS, "{\"RestoreState\":\"Paused\"}").unwrap();
        assert_eq!(read.unwrap().state, RestoreState::Unknown);
        for body in [
            "{}",
            "[]",
            "{\"RestoreState\":4}",
            "{\"RestoreState\":null}",
            "{\"BackupState\":\"Success\"}",
        ] {
            let error = answer(&RESTORE_PROGRESS, body).unwrap_err();
            assert_eq!(error.reason(), Reason::Decode, "{body}");
        }
    }

    #[test]
    fn absence_of_a_record_has_three_spellings() {
        for body in ["null", "", "\u{feff}null", " \r\n"] {
            assert_eq!(progress(body).unwrap(), None, "{body:?}");
            assert_eq!(answer(&RESTORE_PROGRESS, body).unwrap(), None, "{body:?}");
        }
    }

    #[test]
    fn unknown_words_and_keys_are_ignored() {
        let read = progress("{\"New\":[{}],\"BackupState\":\"Paused\",\"FailureError\":{}}");
        let read = read.unwrap().unwrap();
        assert_eq!(read.state, BackupState::Unknown);
        assert_eq!(read.failure.unwrap().code.as_str(), "other");
        assert_eq!((read.lsn, read.epoch, read.timestamp), (None, None, None));
    }

    #[test]
    fn negative_numbers_are_absent() {
        let read = progress(
            "{\"BackupState\":\"Success\",\"LsnOfLastBackupRecord\":-1,\"EpochOfLastBackupRecord\":\
             {\"DataLossVersion\":\"-1\",\"ConfigurationVersion\":-1}}",
        );
        let read = read.unwrap().unwrap();
        let unknown = Epoch {
            data_loss_version: None,
            configuration_version: None,
        };
        assert_eq!((read.lsn, read.epoch), (None, Some(unknown)));
    }

    #[test]
    fn malformed_records_are_errors() {
        for body in [
            "{}",
            "[]",
            "\"Success\"",
            "1",
            "<html><body>Sign in</body></html>",
            "{\"BackupState\":\"Success\"",
            "{\"BackupState\":\"Success\"}}",
            "{\"BackupState\":null}",
            "{\"BackupState\":3}",
            "{\"backupState\":\"Success\"}",
            "[\"Success\",null,null,null,null,null]",
            "{\"Error\":{\"Code\":\"FABRIC_E_TIMEOUT\",\"Message\":\"\"}}",
        ] {
            let error = progress(body).unwrap_err();
            assert_eq!(error.reason(), Reason::Decode, "{body}");
        }
    }

    #[test]
    fn errors_do_not_quote_the_answer() {
        let body = "{\"BackupState\":{\"Password=geheim\":0},\"FailureError\":\"Password=geheim\"}";
        let error = progress(body).unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("geheim"),
            "{error:?}"
        );
    }

    #[test]
    fn messages_are_blanked_and_cut() {
        let text = format!("AccountKey=geheim;{}", "x".repeat(2_000));
        let body = format!(
            "{{\"BackupState\":\"Failure\",\"FailureError\":{{\"Code\":5,\"Message\":\"{text}\"}}}}"
        );
        let failure = progress(body).unwrap().unwrap().failure.unwrap();
        let message = failure.message.unwrap();
        assert!(message.starts_with("AccountKey=***;xxx"), "{message}");
        assert_eq!(message.len(), 1_024);
        assert_eq!(failure.code.as_str(), "0x00000005");
    }

    #[test]
    fn every_list_sample_is_read() {
        let page = answer(&APPLICATIONS, sample("GetApplicationInfoList.page-1.json")).unwrap();
        let names: Vec<_> = page.items.iter().map(AsRef::as_ref).collect();
        assert_eq!(
            names,
            [
                "fabric:/samples/CalculatorApp",
                "fabric:/samples/PQueueApp1"
            ]
        );
        assert_eq!(page.next.as_deref(), Some("fabric:/samples/PQueueApp1"));
        let page = answer(&APPLICATIONS, sample("GetApplicationInfoList.sfx.json")).unwrap();
        assert_eq!((page.items.len(), page.next), (1, None));
        let page = answer(&SERVICES, sample("GetServiceInfoList.mixed.json")).unwrap();
        let names: Vec<_> = page.items.iter().map(AsRef::as_ref).collect();
        assert_eq!(names, ["fabric:/VisualObjects/VisualObjects.ActorService"]);
        let page = answer(&SERVICES, sample("GetServiceInfoList.system.json")).unwrap();
        assert_eq!(page.items.len(), 2);
    }

    #[test]
    fn every_partition_list_sample_is_read() {
        for (file, kinds) in [
            ("five", vec![PartitionKind::Int64Range; 5]),
            ("api-6.4-primary-epoch", vec![PartitionKind::Int64Range]),
            (
                "singleton-and-named",
                vec![PartitionKind::Singleton, PartitionKind::Named],
            ),
        ] {
            let body = sample(&format!("GetPartitionInfoList.{file}.json"));
            let page = answer(&PARTITIONS, body).unwrap();
            let read: Vec<_> = page.items.iter().map(|listed| listed.kind).collect();
            assert_eq!(read, kinds, "{file}");
        }
        assert_eq!(samples("GetPartitionInfoList.").len(), 3);
    }

    #[test]
    fn single_partition_samples_are_items_of_a_list() {
        for (file, items) in [
            ("quorum-loss.sfx", 1),
            ("self-reconfiguring.sfx", 0),
            ("stateful", 1),
        ] {
            let item = sample(&format!("GetPartitionInfo.{file}.json"));
            let body = format!("{{\"Items\":[{}]}}", String::from_utf8(item).unwrap());
            let page = answer(&PARTITIONS, body).unwrap();
            assert_eq!((page.items.len(), page.next), (items, None), "{file}");
        }
    }

    #[test]
    fn an_epoch_under_either_name_dates_the_last_data_loss() {
        let data_loss_time = |epochs: &str| {
            let id = Uuid::from_u128(1);
            let body = format!(
                "{{\"Items\":[{{\"ServiceKind\":\"Stateful\",\"PartitionInformation\":\
                 {{\"ServicePartitionKind\":\"Named\",\"Id\":\"{id}\"}}{epochs}}}]}}"
            );
            let listed = answer(&PARTITIONS, body).unwrap().items[0];
            listed.data_loss_time.map(|time| time.to_rfc3339())
        };
        let primary = ",\"PrimaryEpoch\":{\"DataLossVersion\":\"131873018908156893\"}";
        let current = ",\"CurrentConfigurationEpoch\":{\"DataLossVersion\":131873018908156893}";
        let small = ",\"CurrentConfigurationEpoch\":{\"DataLossVersion\":\"1\"}";
        let time = Some("2018-11-21T19:24:50.815689300+00:00".to_owned());
        for (epochs, expected) in [
            (primary.to_owned(), time.clone()),
            (current.to_owned(), time.clone()),
            (format!("{small}{primary}"), time),
            (small.to_owned(), None),
            (",\"PrimaryEpoch\":null".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(data_loss_time(&epochs), expected, "{epochs}");
        }
    }

    #[test]
    fn malformed_lists_are_errors() {
        for body in [
            "",
            "null",
            "[]",
            "{}",
            "{\"Items\":null}",
            "{\"Items\":{\"Name\":\"fabric:/A\"}}",
            "{\"Items\":[{\"Name\":\"fabric:/A\"}",
            "{\"Items\":[{\"Name\":\"fabric:/A\"}]]",
            "{\"Items\":[],\"ContinuationToken\":1}",
        ] {
            let error = answer(&APPLICATIONS, body).unwrap_err();
            assert_eq!(error.reason(), Reason::Decode, "{body}");
        }
    }

    #[test]
    fn malformed_topology_items_are_skipped() {
        for item in [
            "null",
            "{}",
            "[\"fabric:/A\"]",
            "{\"Name\":\"A\"}",
            "{\"Name\":\"fabric:/\"}",
            "{\"Name\":\"fabric:/..\"}",
            "{\"Name\":\"fabric:/A/./B\"}",
            "{\"Name\":\"fabric:/A\\ud800\"}",
            "{\"Name\":7}",
        ] {
            let body = format!("{{\"Items\":[{item},{{\"Name\":\"fabric:/B\"}}]}}");
            let page = answer(&APPLICATIONS, body).unwrap();
            assert_eq!(
                (page.items, page.skipped),
                (vec!["fabric:/B".into()], 1),
                "{item}"
            );
        }
        let service = |persisted: &str| {
            format!(
                "{{\"Items\":[{{\"ServiceKind\":\"Stateful\",\"Name\":\"fabric:/A/S\",\
                 \"HasPersistedState\":{persisted}}}]}}"
            )
        };
        for (persisted, items, skipped) in [("true", 1, 0), ("null", 0, 0), ("\"true\"", 0, 1)] {
            let page = answer(&SERVICES, service(persisted)).unwrap();
            assert_eq!(
                (page.items.len(), page.skipped),
                (items, skipped),
                "{persisted}"
            );
        }
        for information in [
            "null",
            "{\"ServicePartitionKind\":\"Named\"}",
            "{\"ServicePartitionKind\":\"Named\",\"Id\":\"00000000-0000-0000-0000-000000000000\"}",
        ] {
            let body = format!(
                "{{\"Items\":[{{\"ServiceKind\":\"Stateful\",\"PartitionInformation\":{information}}}]}}"
            );
            let page = answer(&PARTITIONS, body).unwrap();
            assert_eq!((page.items.len(), page.skipped), (0, 1), "{information}");
        }
    }

    #[test]
    fn names_and_version_are_read() {
        let service = answer(&SERVICE_NAME, sample("GetServiceNameInfo.json")).unwrap();
        assert_eq!(
            &*service,
            "fabric:/VisualObjectsApplicationType/VisualObjects.ActorService"
        );
        let application = answer(&APPLICATION_NAME, sample("GetApplicationNameInfo.json")).unwrap();
        assert_eq!(&*application, "fabric:/VisualObjectsApplicationType");
        let version = answer(&CLUSTER_VERSION, sample("GetClusterVersion.json")).unwrap();
        assert_eq!(version, "6.4.514.9494");
    }

    #[test]
    fn a_partition_without_a_service_is_not_found() {
        let missing = sample("GetPartitionInfo.missing-204.txt");
        let told = |status| SERVICE_NAME.read(&Subject::Cluster, status, &missing);
        assert!(matches!(told(204), Err(ReplyError::PartitionNotFound)));
        assert_eq!(told(200).unwrap_err().reason(), Reason::Decode);
        let nameless = answer(&APPLICATION_NAME, "").unwrap_err();
        assert_eq!(nameless.reason(), Reason::Decode);
    }

    /// Every decoded value must occur in the body that it was decoded from.
    fn stands_in(read: &BackupProgress, body: &[u8]) -> bool {
        let text = String::from_utf8_lossy(body);
        let stands = |number: u64| text.contains(&number.to_string());
        let epoch = read.epoch.as_ref();
        read.lsn.is_none_or(stands)
            && epoch
                .and_then(|epoch| epoch.data_loss_version)
                .is_none_or(stands)
            && epoch
                .and_then(|epoch| epoch.configuration_version)
                .is_none_or(stands)
            && (read.state == BackupState::Unknown || text.contains(read.state.as_str()))
            && read
                .timestamp
                .is_none_or(|time| text.contains(&time.format("%M:%S").to_string()))
    }

    pub(super) fn is_read_or_not_understood<T>(read: Result<T, ReplyError>) -> bool {
        read.map_or_else(|cause| cause.reason() == Reason::Decode, |_| true)
    }

    pub(super) fn mutated() -> impl Strategy<Value = Vec<u8>> {
        let mut bodies: Vec<_> = samples("Get").iter().map(|name| sample(name)).collect();
        bodies.retain(|body| !body.is_empty());
        let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..6);
        (prop::sample::select(bodies), edits).prop_map(|(mut body, edits)| {
            for (place, byte, edit) in edits {
                let place = place.index(body.len());
                match edit {
                    0 => body[place] = byte,
                    1 => body.insert(place, byte),
                    _ => body.truncate(place.max(1)),
                }
            }
            body
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_not_understood(body: Vec<u8>) {
            prop_assert!(is_read_or_not_understood(progress(&body)));
            prop_assert!(is_read_or_not_understood(answer(&PARTITIONS, &body)));
            prop_assert!(is_read_or_not_understood(answer(&PARTITION_HEALTH, &body)));
            prop_assert!(is_read_or_not_understood(answer(&POLICIES, &body)));
            prop_assert!(is_read_or_not_understood(answer(&ALL_BACKUPS, &body)));
        }

        #[test]
        fn mutated_samples_yield_no_value_that_is_not_in_them(body in mutated()) {
            match progress(&body) {
                Ok(Some(read)) => prop_assert!(stands_in(&read, &body), "{read:?}"),
                Ok(None) => {
                    let body = without_padding(&body);
                    prop_assert!(body.is_empty() || body == b"null");
                }
                Err(cause) => prop_assert_eq!(cause.reason(), Reason::Decode),
            }
            prop_assert!(is_read_or_not_understood(answer(&SERVICES, &body)));
            prop_assert!(is_read_or_not_understood(answer(&PARTITIONS, &body)));
            prop_assert!(is_read_or_not_understood(answer(&APPLICATIONS, &body)));
            prop_assert!(is_read_or_not_understood(answer(&RESTORE_PROGRESS, &body)));
        }
    }
}
