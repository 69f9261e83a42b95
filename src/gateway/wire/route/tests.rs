use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::gateway::wire::{
    ALL_BACKUPS, APPLICATION_CONFIGURATIONS, APPLICATIONS, BACKUP_PROGRESS, CLUSTER_VERSION,
    ENTITIES_OF_POLICY, LATEST_BACKUPS, PARTITION_HEALTH, PARTITIONS, POLICIES, Query,
    RESTORE_PROGRESS, SERVICES,
};

fn address<T>(
    endpoint: &str,
    query: &Query<T>,
    subject: Subject<'_>,
    page: Option<&str>,
) -> String {
    let endpoint = endpoint.parse().unwrap();
    let remaining = Duration::from_millis(29_990);
    query
        .route
        .url(&endpoint, &subject, page, remaining)
        .to_string()
}

#[test]
fn addresses_follow_the_reference() {
    let partition = PartitionId(Uuid::from_u128(0xAB));
    for (built, expected) in [
        (
            address("http://sf:19080", &CLUSTER_VERSION, Subject::Cluster, None),
            "http://sf:19080/$/GetClusterVersion?api-version=6.4&timeout=29",
        ),
        (
            address("http://sf:19080/", &APPLICATIONS, Subject::Cluster, None),
            "http://sf:19080/Applications?api-version=6.1&timeout=29&ExcludeApplicationParameters=true",
        ),
        (
            address(
                "http://proxy/cluster/a/",
                &BACKUP_PROGRESS,
                Subject::Partition(partition),
                None,
            ),
            "http://proxy/cluster/a/Partitions/00000000-0000-0000-0000-0000000000ab/$/GetBackupProgress?api-version=6.4&timeout=29",
        ),
        (
            address(
                "http://sf",
                &SERVICES,
                Subject::Application("fabric:/samples/Shop"),
                None,
            ),
            "http://sf/Applications/samples~Shop/$/GetServices?api-version=6.0&timeout=29",
        ),
        (
            address(
                "http://sf",
                &PARTITIONS,
                Subject::Service("fabric:/A b/Ü?x#%2F"),
                None,
            ),
            "http://sf/Services/A%20b~%C3%9C%3Fx%23%252F/$/GetPartitions?api-version=6.4&timeout=29",
        ),
        (
            address(
                "http://sf",
                &PARTITIONS,
                Subject::Service("fabric:/A"),
                Some("a b+c/d:e#f&g=%é"),
            ),
            "http://sf/Services/A/$/GetPartitions?api-version=6.4&timeout=29&ContinuationToken=a%20b%2Bc%2Fd%3Ae%23f%26g%3D%25%C3%A9",
        ),
    ] {
        assert_eq!(built, expected);
    }
}

#[test]
fn addresses_of_backup_routes_follow_the_reference() {
    let partition = PartitionId(Uuid::from_u128(0xAB));
    let partition = Subject::Partition(partition);
    let application = Subject::Application("fabric:/samples~1/A b");
    let policy = Subject::Policy("Every 4/5 h?");
    for (built, expected) in [
        (
            address("http://sf", &PARTITION_HEALTH, partition, None),
            "Partitions/00000000-0000-0000-0000-0000000000ab/$/GetHealth?api-version=6.0&timeout=29&ReplicasHealthStateFilter=1&ExcludeHealthStatistics=true",
        ),
        (
            address("http://sf", &RESTORE_PROGRESS, partition, None),
            "Partitions/00000000-0000-0000-0000-0000000000ab/$/GetRestoreProgress?api-version=6.4&timeout=29",
        ),
        (
            address(
                "http://sf",
                &APPLICATION_CONFIGURATIONS,
                application,
                Some("a#b"),
            ),
            "Applications/samples~1%2FA%20b/$/GetBackupConfigurationInfo?api-version=6.4&timeout=29&ContinuationToken=a%23b",
        ),
        (
            address("http://sf", &POLICIES, Subject::Cluster, None),
            "BackupRestore/BackupPolicies?api-version=6.4&timeout=29",
        ),
        (
            address("http://sf", &ENTITIES_OF_POLICY, policy, None),
            "BackupRestore/BackupPolicies/Every%204%2F5%20h%3F/$/GetBackupEnabledEntities?api-version=6.4&timeout=29",
        ),
        (
            address("http://sf", &LATEST_BACKUPS, application, None),
            "Applications/samples~1%2FA%20b/$/GetBackups?api-version=6.4&timeout=29&Latest=true",
        ),
        (
            address("http://sf", &ALL_BACKUPS, application, None),
            "Applications/samples~1%2FA%20b/$/GetBackups?api-version=6.4&timeout=29",
        ),
    ] {
        assert_eq!(built, format!("http://sf/{expected}"));
    }
}

#[test]
fn only_a_storage_scan_explains_a_timeout() {
    for reason in Reason::ALL {
        let timeout = matches!(reason, Reason::Timeout | Reason::ServiceUnavailable);
        assert_eq!(
            CallClass::StorageScan.explains(reason),
            timeout,
            "{reason:?}"
        );
        assert!(!CallClass::Normal.explains(reason), "{reason:?}");
    }
}

#[test]
fn server_timeout_is_in_whole_seconds_and_shorter_than_ours() {
    for (milliseconds, seconds) in [(0, 1), (900, 1), (2_400, 1), (2_500, 2), (30_000, 29)] {
        assert_eq!(server_timeout(Duration::from_millis(milliseconds)), seconds);
    }
}

/// The grammar of `path-absolute` in RFC 3986, section 3.3.
fn is_path(path: &str) -> bool {
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let good = match byte {
            b'%' => {
                let hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
                hex(rest.next()) && hex(rest.next())
            }
            byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte),
        };
        if !good {
            return false;
        }
    }
    path.starts_with('/')
}

/// Decodes percent-encoding as RFC 3986, section 2.1, defines it.
fn decoded(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment;
    while let Some((plain, escape)) = rest.split_once('%') {
        bytes.extend(plain.bytes());
        let (digits, after) = escape.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).unwrap());
        rest = after;
    }
    bytes.extend(rest.bytes());
    String::from_utf8(bytes).unwrap()
}

/// The path of a request, and the decoded id at `position` in it.
fn path_and_id<T>(query: &Query<T>, subject: Subject<'_>, position: usize) -> (String, String) {
    let address = address("http://sf/x", query, subject, None);
    let path = address.strip_prefix("http://sf").unwrap();
    let path = path.split('?').next().unwrap();
    let id = decoded(path.split('/').nth(position).unwrap());
    (path.to_owned(), id)
}

/// Whether `name` survives encoding on all kinds of routes.
fn survives(name: &str) -> bool {
    let full = format!("fabric:/{name}");
    let (native, native_id) = path_and_id(&PARTITIONS, Subject::Service(&full), 3);
    let (backup, backup_id) =
        path_and_id(&APPLICATION_CONFIGURATIONS, Subject::Application(&full), 3);
    let (policy, policy_id) = path_and_id(&ENTITIES_OF_POLICY, Subject::Policy(name), 4);
    [&native, &backup, &policy]
        .into_iter()
        .all(|path| is_path(path))
        && native_id == name.replace('/', "~")
        && backup_id == name
        && policy_id == name
        && native.split('/').count() == 6
        && backup.split('/').count() == 6
        && policy.split('/').count() == 7
}

#[test]
fn names_with_special_characters_survive_encoding() {
    for name in [
        "a|b",
        "[x]",
        "a^b",
        "a\\b",
        "{\"}<>`",
        "100%",
        "%41",
        "%2F%2f%",
        "a?b#c",
        "a+b c",
        " ",
        "\t\r\n\0\u{7f}",
        "Ü/日本/🚀",
        "a~b",
        "$/$",
        "!$&'()*,;=:@",
        "..a/.b",
        "%2e%2e",
    ] {
        assert!(survives(name), "{name:?}");
    }
}

proptest! {
    #[test]
    fn any_name_survives_encoding(name in "(?s).{1,40}") {
        prop_assume!(name != "." && name != "..");
        prop_assert!(survives(&name), "{:?}", name);
    }

    #[test]
    fn no_name_or_token_escapes_its_segment(name in "\\PC{1,30}", token in "(?s).{0,30}") {
        prop_assume!(name != "." && name != "..");
        let built: Url = address("http://sf/x", &PARTITIONS, Subject::Service(&name), Some(&token))
            .parse()
            .unwrap();
        prop_assert_eq!(built.path_segments().unwrap().count(), 5);
        let pairs: Vec<_> = built.query_pairs().collect();
        prop_assert_eq!(pairs.len(), 3);
        prop_assert_eq!(&pairs[2].1, &token);
        for (built, segments) in [
            (address("http://sf/x", &APPLICATION_CONFIGURATIONS, Subject::Application(&name), None), 5),
            (address("http://sf/x", &ENTITIES_OF_POLICY, Subject::Policy(&name), None), 6),
        ] {
            let built: Url = built.parse().unwrap();
            prop_assert_eq!(built.path_segments().unwrap().count(), segments);
        }
    }
}
