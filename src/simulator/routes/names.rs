//! Names and keys of the backup service.
//!
//! Implements the keys of `UtilityHelper.cs`: `fabric:/Application/Service/{partition}`, with `$`
//! for a `/` inside a name. 6.4 parses keys with `Uri.Segments`, which percent-encodes: responses
//! show the encoded name, and a lookup by it does not find an entry that was stored under a name
//! with spaces or non-ASCII characters.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};

use crate::simulator::estate::{Entity, Estate};

/// Characters that .NET escapes in a path besides non-ASCII ones.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Error of a suspended entity without a policy where the service expects one.
pub(super) struct NullReference;

pub(super) struct Names<'a> {
    pub(super) estate: &'a Estate,
}

impl<'a> Names<'a> {
    pub(super) fn of(estate: &'a Estate) -> Self {
        Self { estate }
    }

    /// The key under which mapping and suspension of an entity are stored.
    pub(super) fn key(&self, entity: &Entity) -> String {
        match entity {
            Entity::Application(name) => format!("fabric:/{}", stored(name, "fabric:/")),
            Entity::Service(name) => {
                let application = self.application_of(name);
                let key = self.key(&Entity::application(&application));
                format!("{key}/{}", stored(name, &application))
            }
            Entity::Partition(id) => {
                let service = self.estate.home_of(*id);
                let key = service.map(|name| self.key(&Entity::Service(name)));
                format!("{}/{id}", key.unwrap_or_default())
            }
        }
    }

    /// The same key after the parsing of a request.
    pub(super) fn uri(&self, entity: &Entity) -> String {
        self.spelled(&self.key(entity))
    }

    /// Whether what is stored for an application or service is found by what comes out of the
    /// parsing.
    pub(super) fn is_found(&self, entity: &Entity) -> bool {
        !self.estate.is_mangled(entity)
    }

    /// A name in the format of responses.
    pub(super) fn spelled(&self, name: &str) -> String {
        if self.estate.behaviour().mangles_encoded_names {
            utf8_percent_encode(name, ESCAPED).to_string()
        } else {
            name.to_owned()
        }
    }

    /// The properties that name an entity.
    pub(super) fn of_entity(&self, entity: &Entity) -> Value {
        match entity {
            Entity::Application(name) => json!({"ApplicationName": self.spelled(name)}),
            Entity::Service(name) => json!({"ServiceName": self.spelled(name)}),
            Entity::Partition(id) => {
                let service = self.estate.home_of(*id);
                let service = service.map(|name| self.spelled(&name));
                json!({"ServiceName": service, "PartitionId": id})
            }
        }
    }

    /// An item of `GetBackupConfigurationInfo`, as in the samples of this name; `suspended` is the
    /// level of a suspension.
    pub(super) fn line(
        &self,
        entity: &Entity,
        policy: &str,
        from: &str,
        suspended: Option<&str>,
    ) -> Value {
        let mut line = self.of_entity(entity);
        line["Kind"] = json!(entity.level());
        line["PolicyName"] = json!(policy);
        line["PolicyInheritedFrom"] = json!(from);
        line["SuspensionInfo"] = json!({
            "IsSuspended": suspended.is_some(),
            "SuspensionInheritedFrom": suspended.unwrap_or("Invalid"),
        });
        line
    }

    /// Level and name of the policy that the list names for something suspended that has none of
    /// its own. 6.4 looks up that of the service, overwrites it with that of the application, and
    /// uses it without looking whether there is one (`GetBackupMappingInfoOperation.cs`).
    pub(super) fn policy_of_suspended(
        &self,
        entity: &Entity,
    ) -> Result<Option<(&'static str, &'a str)>, NullReference> {
        let line = self.estate.line(entity);
        let own = |it: &Entity| Some((it.level(), self.estate.backup_service.own_policy(it)?));
        if !self.estate.behaviour().null_reference {
            return Ok(line.iter().find_map(own));
        }
        let application = line.last().filter(|it| self.is_found(it));
        application.and_then(own).map(Some).ok_or(NullReference)
    }

    /// The application of a service: its own, or the first level of its name.
    fn application_of(&self, service: &str) -> String {
        if let Some(application) = self.estate.application_of_service(service) {
            return application.to_string();
        }
        let levels: Vec<_> = service.splitn(3, '/').take(2).collect();
        levels.join("/")
    }
}

/// The part of a name below a prefix, in the format of keys.
fn stored(name: &str, prefix: &str) -> String {
    let rest = name.strip_prefix(prefix).unwrap_or(name);
    rest.trim_matches('/').replace('/', "$")
}

/// An id in the format of the gateway from api-version 6.0 on.
pub(super) fn id_of(name: &str) -> String {
    let relative = name.strip_prefix("fabric:/").unwrap_or(name);
    relative.replace('/', "~")
}
