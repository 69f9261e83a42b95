//! What `deploy/compose` puts together fits together: paths, ports, names and addresses.
//!
//! Nothing is started here, and the structures know no more keys than are looked at; whether the
//! programs take the files, `tests/real` asks them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use serde::Deserialize;
use serde::de::DeserializeOwned;

const FOLDER: &str = "deploy/compose";

#[derive(Deserialize)]
struct Compose {
    services: BTreeMap<String, Service>,
    volumes: BTreeMap<String, Option<()>>,
}

#[derive(Deserialize)]
struct Service {
    image: String,
    #[serde(default)]
    command: Vec<String>,
    ports: Vec<String>,
    #[serde(default)]
    extra_hosts: Vec<String>,
    volumes: Vec<String>,
}

impl Service {
    /// (source, target, whether it can be written to) of every mount.
    fn mounts(&self) -> Vec<(&str, &str, bool)> {
        let parts = |mount| str::split(mount, ':').collect::<Vec<_>>();
        let mounts = self.volumes.iter().map(|mount| parts(mount));
        mounts
            .map(|parts| (parts[0], parts[1], parts.get(2) != Some(&"ro")))
            .collect()
    }

    /// Where a file of the container comes from.
    fn source_of(&self, file: &str) -> PathBuf {
        let found = self.mounts().into_iter().find_map(|(source, target, _)| {
            let rest = Path::new(file).strip_prefix(target).ok()?;
            let source = Path::new(FOLDER).join(source);
            Some(if rest.as_os_str().is_empty() {
                source
            } else {
                source.join(rest)
            })
        });
        found.unwrap()
    }
}

#[derive(Deserialize)]
struct Prometheus {
    global: Global,
    rule_files: Vec<String>,
    alerting: Alerting,
    scrape_configs: Vec<Scrape>,
}

#[derive(Deserialize)]
struct Global {
    scrape_interval: String,
}

#[derive(Deserialize)]
struct Alerting {
    alertmanagers: Vec<Discovery>,
}

#[derive(Deserialize)]
struct Scrape {
    job_name: String,
    static_configs: Vec<Targets>,
}

#[derive(Deserialize)]
struct Discovery {
    static_configs: Vec<Targets>,
}

#[derive(Deserialize)]
struct Targets {
    targets: Vec<String>,
}

/// A file of data sources that Grafana 9.4 and later read at the start.
#[derive(Deserialize)]
struct DataSources {
    datasources: Vec<DataSource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DataSource {
    url: String,
    json_data: JsonData,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonData {
    time_interval: String,
}

#[derive(Deserialize)]
struct Providers {
    providers: Vec<Provider>,
}

#[derive(Deserialize)]
struct Provider {
    options: ProviderOptions,
}

#[derive(Deserialize)]
struct ProviderOptions {
    path: String,
}

fn read<T: DeserializeOwned>(file: &str) -> T {
    let path = Path::new(FOLDER).join(file);
    let text = fs::read_to_string(&path).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

fn compose() -> Compose {
    read("compose.yml")
}

impl Compose {
    /// Where a service listens, here and in its container; it has one port.
    fn port(&self, service: &str) -> (u16, u16) {
        let port = only(self.services[service].ports.clone());
        let (outside, inside) = port.rsplit_once(':').unwrap();
        let (_, outside) = outside.rsplit_once(':').unwrap();
        (outside.parse().unwrap(), inside.parse().unwrap())
    }
}

fn only<T>(items: Vec<T>) -> T {
    let mut items = items.into_iter();
    let first = items.next().unwrap();
    assert!(items.next().is_none(), "more than one");
    first
}

#[test]
fn every_mounted_path_exists_and_only_volumes_are_written_to() {
    let compose = compose();
    let mut volumes = BTreeSet::new();
    for (name, service) in &compose.services {
        for (source, target, writable) in service.mounts() {
            assert!(target.starts_with('/'), "{name}: {target}");
            if source.starts_with('.') {
                let path = Path::new(FOLDER).join(source);
                assert!(path.exists(), "{name}: {} is not there", path.display());
            } else {
                volumes.insert(source.to_owned());
            }
            assert_eq!(writable, !source.starts_with('.'), "{name}: {source}");
        }
    }
    assert_eq!(volumes, compose.volumes.into_keys().collect());
}

#[test]
fn images_are_pinned_and_ports_are_open_on_this_machine_only() {
    let version = Regex::new(r"^[a-z]+/[a-z]+:v?\d+\.\d+\.\d+$").unwrap();
    for (name, service) in compose().services {
        assert!(
            version.is_match(&service.image),
            "{name}: {}",
            service.image
        );
        for port in service.ports {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
}

#[test]
fn the_programs_find_their_files_and_each_other() {
    let compose = compose();
    let services = &compose.services;
    for name in ["prometheus", "alertmanager"] {
        let service = &services[name];
        let mut flags = service.command.iter();
        let file = flags.find_map(|it| it.strip_prefix("--config.file="));
        let file = file.unwrap();
        assert!(service.source_of(file).is_file(), "{name}: {file}");
        let (outside, _) = compose.port(name);
        let address = format!("--web.external-url=http://localhost:{outside}");
        assert!(service.command.contains(&address), "{name}: {address}");
    }
    let prometheus: Prometheus = read("prometheus.yml");
    let alertmanagers = only(prometheus.alerting.alertmanagers).static_configs;
    let (_, inside) = compose.port("alertmanager");
    let target = only(only(alertmanagers).targets);
    assert_eq!(target, format!("alertmanager:{inside}"));
    let rules = Path::new("/etc/prometheus").join(only(prometheus.rule_files));
    let rules = services["prometheus"].source_of(rules.to_str().unwrap());
    let pattern = rules.file_name().unwrap().to_str().unwrap();
    let (start, end) = pattern.split_once('*').unwrap();
    let files = fs::read_dir(rules.parent().unwrap()).unwrap();
    let mut names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert!(names.all(|name| name.starts_with(start) && name.ends_with(end)));
}

#[test]
fn the_demo_is_scraped_where_it_listens() {
    let prometheus: Prometheus = read("prometheus.yml");
    let scrape = only(prometheus.scrape_configs);
    assert_eq!(scrape.job_name, "servicefabric-backup");
    let target = only(only(scrape.static_configs).targets);
    let (host, port) = target.split_once(':').unwrap();
    let hosts = &compose().services["prometheus"].extra_hosts;
    assert!(hosts.contains(&format!("{host}:host-gateway")));
    let program = env!("CARGO_BIN_EXE_servicefabric-backup-exporter");
    let help = Command::new(program)
        .args(["demo", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains(&format!("[default: :{port}]")), "{help}");
}

#[test]
fn grafana_finds_prometheus_and_the_dashboards() {
    let compose = compose();
    let grafana = &compose.services["grafana"];
    let provisioning = "/etc/grafana/provisioning";
    for folder in ["datasources", "dashboards"] {
        let source = grafana.source_of(&format!("{provisioning}/{folder}"));
        assert_eq!(source, Path::new(FOLDER).join("./grafana").join(folder));
    }

    let sources: DataSources = read("grafana/datasources/prometheus.yml");
    let source = only(sources.datasources);
    let (_, inside) = compose.port("prometheus");
    assert_eq!(source.url, format!("http://prometheus:{inside}"));
    let prometheus: Prometheus = read("prometheus.yml");
    let scraped = prometheus.global.scrape_interval;
    assert_eq!(source.json_data.time_interval, scraped);

    let providers: Providers = read("grafana/dashboards/servicefabric-backup.yml");
    let provider = only(providers.providers);
    let source = grafana.source_of(&provider.options.path);
    assert_eq!(source, Path::new(FOLDER).join("../../dashboards"));
}

#[test]
fn notifications_link_to_grafana_as_compose_publishes_it() {
    let template = "deploy/alertmanager/templates/servicefabric-backup.tmpl";
    let template = fs::read_to_string(template).unwrap();
    let (port, _) = compose().port("grafana");
    let address = format!("}}}}http://localhost:{port}{{{{ end }}}}");
    assert_eq!(template.matches(&address).count(), 1, "{address}");
}
