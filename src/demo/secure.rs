//! Everything a demo needs to run in TLS from end to end, made anew at every start.
//!
//! Responsible for the certificate of the simulated gateway, the read-only certificate of its
//! client, and the certificate and password of the exporter's own page. It may not start
//! anything. Its files lie in a folder that only their owner can enter and that goes with the
//! value; no secret leaves it in any other way.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CertifiedKey, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use ring::rand::{SystemRandom, generate};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;

use crate::settings::{Auth, ClientCertificate, Security, Thumbprint, Trust};
use crate::simulator::{Access, Options, Role, ServerIdentity};

/// How long the certificates are good: long enough for any demo, short enough for their expiry to
/// be worth a look.
const LIFE: TimeDelta = TimeDelta::days(30);

/// The only user of the page.
const USER: &str = "demo";

/// What the tools of Apache and Prometheus use for passwords that people choose.
const BCRYPT_COST: u32 = 10;

/// Where the gateway of the demo and the page of the exporter are reached.
const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The credentials of one demo.
#[derive(Debug)]
pub(super) struct Secured {
    folder: TempDir,
    gateway: ServerIdentity,
    pin: Thumbprint,
    access: Access,
}

impl Secured {
    /// Makes certificates that are good from yesterday on, and a password, and writes them to a
    /// new folder.
    ///
    /// # Errors
    ///
    /// When the folder or a file cannot be written, or there is no randomness.
    pub(super) fn generate(now: DateTime<Utc>) -> anyhow::Result<Self> {
        let folder = private_folder().context("cannot make a folder for the demo")?;
        let path = folder.path();
        let gateway = self_signed(
            "cluster of the demo",
            ExtendedKeyUsagePurpose::ServerAuth,
            now,
        )?;
        write(path, "gateway.pem", &gateway.cert.pem())?;
        let client = self_signed(
            "exporter, read-only",
            ExtendedKeyUsagePurpose::ClientAuth,
            now,
        )?;
        write(path, "client.pem", &client.cert.pem())?;
        write(path, "client.key", &client.signing_key.serialize_pem())?;
        write_page_certificate(path, now)?;
        write_password(path)?;
        let mut access = Access::secured();
        access.admit_certificate(client.cert.der(), Role::User);
        let mut pin = [0; SHA256_OUTPUT_LEN];
        pin.copy_from_slice(digest(&SHA256, gateway.cert.der()).as_ref());
        let key = gateway.signing_key.serialize_pem();
        Ok(Self {
            gateway: ServerIdentity::from_pem(&gateway.cert.pem(), &key)?,
            pin: Thumbprint::Sha256(pin),
            access,
            folder,
        })
    }

    /// How the simulated gateway is to serve: in TLS, and for the read-only client alone.
    pub(super) fn options(&self) -> Options {
        Options {
            access: self.access.clone(),
            identity: Some(self.gateway.clone()),
            ..Options::default()
        }
    }

    /// How the exporter and that gateway know each other: by the SHA-256 of the one's certificate,
    /// as most clusters are pinned, and by the certificate of the other.
    pub(super) fn security(&self) -> Security {
        Security {
            trust: Trust::Thumbprints {
                thumbprints: vec![self.pin],
                accept_expired: false,
            },
            auth: Auth::ClientCertificate(ClientCertificate::Pem {
                cert_file: self.folder.path().join("client.pem"),
                key_file: self.folder.path().join("client.key"),
            }),
            tls_max_version: None,
        }
    }

    /// The web configuration of the exporter: TLS, and one user with a password.
    pub(super) fn web_config(&self) -> PathBuf {
        self.folder.path().join("web.yml")
    }

    /// The line that asks a page for what it shows; it holds no secret, and no quotes, which the log
    /// would escape.
    pub(super) fn curl(&self, url: &str) -> String {
        let file = self.folder.path().join("curl.conf");
        format!("curl --config {} {url}", file.display())
    }

    /// The folder that holds all of it until this value is dropped.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// The page is vouched for by an authority that vouches for nothing else: its key is gone when
/// this is done.
fn write_page_certificate(folder: &Path, now: DateTime<Utc>) -> anyhow::Result<()> {
    let mut params = params("authority of the demo", now)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let page = host("page of the demo", ExtendedKeyUsagePurpose::ServerAuth, now)?;
    let key = KeyPair::generate()?;
    let certificate = page.signed_by(&key, &authority)?;
    write(folder, "authority.pem", &authority.pem())?;
    write(folder, "page.pem", &certificate.pem())?;
    write(folder, "page.key", &key.serialize_pem())
}

/// A password, its hash for the exporter, and the password itself for curl: on a command line
/// everybody could read it.
fn write_password(folder: &Path) -> anyhow::Result<()> {
    let random: [u8; 16] = generate(&SystemRandom::new())
        .ok()
        .context("there is no randomness for the password of the demo")?
        .expose();
    let password = SecretString::from(format!("{:032x}", u128::from_be_bytes(random)));
    let hash = bcrypt::hash(password.expose_secret(), BCRYPT_COST)?;
    let web = format!(
        "tls_server_config:\n  cert_file: page.pem\n  key_file: page.key\n\
         basic_auth_users:\n  {USER}: '{hash}'\n"
    );
    write(folder, "web.yml", &web)?;
    let authority = folder.join("authority.pem").display().to_string();
    let curl = format!(
        "cacert = \"{}\"\nuser = \"{USER}:{}\"\n",
        authority.replace('\\', "\\\\").replace('"', "\\\""),
        password.expose_secret(),
    );
    write(folder, "curl.conf", &curl)
}

/// A certificate that nobody vouches for, as most clusters have one.
fn self_signed(
    name: &str,
    purpose: ExtendedKeyUsagePurpose,
    now: DateTime<Utc>,
) -> anyhow::Result<CertifiedKey<KeyPair>> {
    let signing_key = KeyPair::generate()?;
    let cert = host(name, purpose, now)?.self_signed(&signing_key)?;
    Ok(CertifiedKey { cert, signing_key })
}

/// What a certificate says that is no authority.
fn host(
    name: &str,
    purpose: ExtendedKeyUsagePurpose,
    now: DateTime<Utc>,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(name, now)?;
    params.subject_alt_names = CertificateParams::new(HOSTS.map(str::to_owned))?.subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    Ok(params)
}

fn params(name: &str, now: DateTime<Utc>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    let midnight = |day: DateTime<Utc>| {
        let (month, day_of_month) = (day.month(), day.day());
        let small = |number: u32| u8::try_from(number).expect("months and days are small");
        rcgen::date_time_ymd(day.year(), small(month), small(day_of_month))
    };
    params.not_before = midnight(now - TimeDelta::days(1));
    params.not_after = midnight(now + LIFE);
    Ok(params)
}

/// A folder that nobody else can look into.
fn private_folder() -> std::io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("servicefabric-backup-exporter-demo-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // By default it would be open to all whom the umask of the user does not keep out.
        builder.permissions(fs::Permissions::from_mode(0o700));
    }
    builder.tempdir()
}

fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use reqwest::{Certificate, Client, Identity};
    use tokio::net::TcpListener;

    use super::*;
    use crate::clock;
    use crate::simulator::{Estate, EstateSize, Simulator};

    fn read(secured: &Secured, name: &str) -> String {
        fs::read_to_string(secured.folder().join(name)).unwrap()
    }

    async fn start(options: Options) -> Simulator {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shape = EstateSize {
            seed: 1,
            applications: 1,
            services_per_application: 1,
            partitions_per_service: 1,
        };
        let estate = Estate::generate(&shape, DateTime::UNIX_EPOCH);
        Simulator::start(listener, estate, options).unwrap()
    }

    #[tokio::test]
    async fn the_gateway_lets_its_client_read_and_nobody_else() {
        let secured = Secured::generate(clock::now()).unwrap();
        let simulator = start(secured.options()).await;
        let gateway = Certificate::from_pem(read(&secured, "gateway.pem").as_bytes()).unwrap();
        let Security {
            trust: Trust::Thumbprints { thumbprints, .. },
            auth:
                Auth::ClientCertificate(ClientCertificate::Pem {
                    cert_file,
                    key_file,
                }),
            ..
        } = secured.security()
        else {
            unreachable!("neither pins nor a certificate");
        };
        let (certificate, key) = (fs::read(cert_file).unwrap(), fs::read(key_file).unwrap());
        let identity = Identity::from_pkcs8_pem(&certificate, &key).unwrap();
        let stranger = || {
            let builder = Client::builder().no_proxy().tls_info(true);
            builder.tls_certs_only([gateway.clone()])
        };
        for (client, expected) in [
            (stranger().identity(identity), [200, 403]),
            (stranger(), [403, 403]),
        ] {
            let client = client.build().unwrap();
            let url = |path: &str| format!("{}/{path}", simulator.url());
            let list = client.get(url("Applications?api-version=6.1"));
            let list = list.send().await.unwrap();
            let shown = list.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
            let shown = digest(&SHA256, shown.peer_certificate().unwrap());
            let pin = Thumbprint::Sha256(shown.as_ref().try_into().unwrap());
            assert_eq!(thumbprints, [pin]);
            let change = "Applications/App1/$/SuspendBackup?api-version=6.4";
            let change = client.post(url(change)).send().await.unwrap();
            let statuses = [list.status(), change.status()].map(|it| it.as_u16());
            assert_eq!(statuses, expected);
        }
    }

    #[tokio::test]
    async fn the_authority_vouches_for_the_page_and_not_for_the_gateway() {
        let secured = Secured::generate(clock::now()).unwrap();
        let page = [read(&secured, "page.pem"), read(&secured, "page.key")];
        let page = ServerIdentity::from_pem(&page[0], &page[1]).unwrap();
        let authority = Certificate::from_pem(read(&secured, "authority.pem").as_bytes()).unwrap();
        let simulator = start(secured.options()).await;
        let builder = Client::builder().no_proxy().tls_certs_only([authority]);
        let client = builder.pool_max_idle_per_host(0).build().unwrap();
        let url = simulator.url();
        let refused = client.get(&url).send().await.unwrap_err();
        assert!(refused.is_connect(), "{refused:?}");
        simulator.present(page);
        for url in [url.replace("127.0.0.1", "localhost"), url] {
            assert_eq!(client.get(&url).send().await.unwrap().status(), 403);
        }
    }

    #[test]
    fn the_page_has_a_user_whose_password_is_in_the_file_for_curl_only() {
        let secured = Secured::generate(clock::now()).unwrap();
        let (web, curl) = (
            fs::read_to_string(secured.web_config()).unwrap(),
            read(&secured, "curl.conf"),
        );
        let hash = web.split('\'').nth(1).unwrap();
        let password = curl.split("user = \"demo:").nth(1).unwrap();
        let password = password.split('"').next().unwrap();
        assert_eq!(password.len(), 32);
        assert!(bcrypt::verify(password, hash).unwrap());
        let shown = format!("{secured:?}{web}{}", secured.curl("https://localhost"));
        assert!(!shown.contains(password), "{shown}");
        assert!(shown.contains("curl.conf"), "{shown}");
    }

    #[cfg(unix)]
    #[test]
    fn the_folder_is_private_and_goes_with_the_demo() {
        use std::os::unix::fs::PermissionsExt;

        let secured = Secured::generate(clock::now()).unwrap();
        let folder = secured.folder().to_owned();
        let mode = fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop(secured);
        assert!(!folder.exists());
    }

    #[test]
    fn the_certificates_are_good_for_a_while_around_the_start() {
        let now = clock::now();
        let secured = Secured::generate(now).unwrap();
        for name in ["gateway.pem", "client.pem", "authority.pem", "page.pem"] {
            let pem = read(&secured, name);
            let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
            let validity = pem.parse_x509().unwrap().validity().clone();
            let left = validity.not_after.timestamp() - now.timestamp();
            let days = TimeDelta::seconds(left).num_days();
            assert!((29..=30).contains(&days), "{name}: {days}");
            assert!(validity.not_before.timestamp() < now.timestamp(), "{name}");
        }
    }
}
