//! The simulated cluster as the poller sees it: [`ClusterApi`] without a network.
//!
//! Responsible for answering at the simulated moment of a question, as late as a slow gateway
//! does, and for noting when what was answered. It must not look at what the exporter makes of it.

use chrono::TimeDelta;
use servicefabric_backup_exporter::gateway::{Error, Rotation};
use servicefabric_backup_exporter::model::{
    BackupConfiguration, BackupEntity, BackupHealth, BackupProgress, DecodedList, ListedBackup,
    ListedPartition, Name, PartitionId, Policy, RestoreProgress,
};
use servicefabric_backup_exporter::poller::ClusterApi;
use servicefabric_backup_exporter::snapshot::SecurityStatus;

use super::answers::{Answers, Question};
use super::site::{Site, State};
use super::time;
use super::weather::Side;

type Answer<T> = Result<T, Error>;

impl Site {
    /// Asks the cluster, after the delay of a slow gateway. `note` takes down that, and when, the
    /// question was answered.
    async fn ask<T: Send>(
        &self,
        side: Side,
        question: impl FnOnce(&mut Answers, &mut Question<'_>) -> Answer<T> + Send,
        note: impl FnOnce(&mut State, i64, &T) + Send,
    ) -> Answer<T> {
        let delay = self.lock().delay(time::now());
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        let mut state = self.lock();
        let now = time::now();
        state.advance(now);
        let answer = state.ask(side, now, question);
        if let Ok(answer) = &answer {
            note(&mut state, now, answer);
        }
        answer
    }
}

impl ClusterApi for Site {
    async fn refresh(&self) -> Option<Rotation> {
        None
    }

    fn begin_cycle(&self) {
        self.lock().begin_cycle();
    }

    fn begin_lists(&self) {}

    fn native_access(&self) -> bool {
        self.lock().heard.native
    }

    fn backup_service(&self) -> Option<bool> {
        self.lock().heard.service
    }

    fn clock_skew(&self) -> Option<TimeDelta> {
        self.lock().heard.skew
    }

    async fn security(&self) -> SecurityStatus {
        SecurityStatus::default()
    }

    async fn cluster_version(&self) -> Answer<String> {
        let question = |it: &mut Answers, now: &mut Question<'_>| it.version(now);
        self.ask(Side::Gateway, question, |_, _, _| ()).await
    }

    async fn applications(&self) -> Answer<DecodedList<Name>> {
        let question = |it: &mut Answers, now: &mut Question<'_>| it.applications(now);
        self.ask(Side::Gateway, question, |_, _, _| ()).await
    }

    async fn persisted_services(&self, application: &str) -> Answer<DecodedList<Name>> {
        let name = Name::from(application);
        let question = |it: &mut Answers, now: &mut Question<'_>| it.services(now, &name);
        self.ask(Side::Gateway, question, |_, _, _| ()).await
    }

    async fn partitions(&self, service: &str) -> Answer<DecodedList<ListedPartition>> {
        let name = Name::from(service);
        let question = |it: &mut Answers, now: &mut Question<'_>| it.partitions(now, &name);
        self.ask(Side::Gateway, question, |_, _, _| ()).await
    }

    async fn service_name(&self, partition: PartitionId) -> Answer<Name> {
        let question = |it: &mut Answers, now: &mut Question<'_>| it.service_name(now, partition);
        self.ask(Side::Gateway, question, |_, _, _| ()).await
    }

    async fn application_name(&self, service: &str) -> Answer<Name> {
        let name = Name::from(service);
        let question = |it: &mut Answers, now: &mut Question<'_>| it.application_name(now, &name);
        self.ask(Side::Gateway, question, |_, _, _| ()).await
    }

    async fn backup_progress(&self, partition: PartitionId) -> Answer<Option<BackupProgress>> {
        let question = |it: &mut Answers, now: &mut Question<'_>| it.record(now, partition);
        let note = |state: &mut State, at, record: &Option<BackupProgress>| {
            let success = record.as_ref().and_then(|record| record.timestamp);
            state.note_claim(partition, success, false);
            state.sight(partition).progress = Some(at);
        };
        self.ask(Side::BackupService, question, note).await
    }

    async fn restore_progress(&self, partition: PartitionId) -> Answer<Option<RestoreProgress>> {
        let question = |it: &mut Answers, now: &mut Question<'_>| it.restore(now, partition);
        self.ask(Side::BackupService, question, |_, _, _| ()).await
    }

    async fn backup_health(&self, partition: PartitionId) -> Answer<BackupHealth> {
        let question = |it: &mut Answers, now: &mut Question<'_>| it.health(now, partition);
        let note = |state: &mut State, at, health: &BackupHealth| {
            let attempt = health.attempt.filter(|attempt| attempt.succeeded);
            state.note_claim(partition, attempt.map(|attempt| attempt.ended), true);
            state.sight(partition).health = Some(at);
        };
        self.ask(Side::HealthStore, question, note).await
    }

    async fn backup_configuration(
        &self,
        application: &str,
    ) -> Answer<DecodedList<BackupConfiguration>> {
        let name = Name::from(application);
        let question = |it: &mut Answers, now: &mut Question<'_>| it.configuration(now, &name);
        let note = |state: &mut State, at, _: &_| state.note_configuration(&name, at);
        self.ask(Side::BackupService, question, note).await
    }

    async fn partition_backup_configuration(
        &self,
        partition: PartitionId,
    ) -> Answer<Option<BackupConfiguration>> {
        let question = |it: &mut Answers, now: &mut Question<'_>| it.setting(now, partition);
        let note = |state: &mut State, at, _: &_| {
            let configuration = &mut state.sight(partition).configuration;
            *configuration = (*configuration).max(Some(at));
        };
        self.ask(Side::BackupService, question, note).await
    }

    async fn policies(&self) -> Answer<DecodedList<Policy>> {
        let question = |it: &mut Answers, now: &mut Question<'_>| it.policies(now);
        let note = |state: &mut State, at, _: &_| state.policies_read = Some(at);
        self.ask(Side::BackupService, question, note).await
    }

    async fn entities_of_policy(&self, policy: &str) -> Answer<DecodedList<BackupEntity>> {
        let name = Name::from(policy);
        let question = |it: &mut Answers, now: &mut Question<'_>| it.entities(now, &name);
        self.ask(Side::BackupService, question, |_, _, _| ()).await
    }

    async fn latest_backups(&self, application: &str) -> Answer<DecodedList<ListedBackup>> {
        let name = Name::from(application);
        let question = |it: &mut Answers, now: &mut Question<'_>| it.newest(now, &name);
        let asked = time::now();
        self.lock().note_list_asked(&name, asked);
        let note = |state: &mut State, _, listed: &_| state.note_list(&name, asked, listed);
        self.ask(Side::BackupService, question, note).await
    }

    async fn latest_backups_of(&self, partition: PartitionId) -> Answer<DecodedList<ListedBackup>> {
        let question = |it: &mut Answers, now: &mut Question<'_>| it.newest_of(now, partition);
        let asked = time::now();
        self.lock().sight(partition).list_asked = Some(asked);
        let note = |state: &mut State, _, listed: &_| state.note_list_of(partition, asked, listed);
        self.ask(Side::BackupService, question, note).await
    }

    async fn all_backups(&self, application: &str) -> Answer<DecodedList<ListedBackup>> {
        let name = Name::from(application);
        let question = |it: &mut Answers, now: &mut Question<'_>| it.all(now, &name);
        let asked = time::now();
        self.lock().note_list_asked(&name, asked);
        let note = |state: &mut State, _, listed: &_| state.note_list(&name, asked, listed);
        self.ask(Side::BackupService, question, note).await
    }
}
