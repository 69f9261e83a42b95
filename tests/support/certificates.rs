//! Certificates for tests, generated with elliptic curves because those are fast.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    date_time_ymd,
};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use servicefabric_backup_exporter::clock;
use servicefabric_backup_exporter::settings::Thumbprint;

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    /// In PKCS#8.
    pub(crate) key: String,
    pub(crate) der: Vec<u8>,
}

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A self-signed certificate of a server or a client.
pub(crate) fn self_signed(name: &str) -> Pair {
    self_signed_as(&params(name))
}

/// A self-signed certificate with these parameters.
pub(crate) fn self_signed_as(params: &CertificateParams) -> Pair {
    let key = KeyPair::generate().unwrap();
    Pair::new(&params.self_signed(&key).unwrap(), &key)
}

/// The parameters of a certificate for `name`.
pub(crate) fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name = called(name);
    params
}

/// Parameters with the name only in the subject, as in many certificates of Service Fabric.
pub(crate) fn params_of_a_common_name(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name = called(name);
    params
}

/// `params`, valid from and until a number of days from now.
pub(crate) fn between(mut params: CertificateParams, from: i64, until: i64) -> CertificateParams {
    let on = |days: i64| {
        let seconds = clock::now().timestamp() + days * 86_400;
        date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds.try_into().unwrap())
    };
    params.not_before = on(from);
    params.not_after = on(until);
    params
}

impl Pair {
    fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().to_vec(),
        }
    }

    pub(crate) fn sha1(&self) -> Thumbprint {
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.der);
        Thumbprint::Sha1(digest.as_ref().try_into().unwrap())
    }

    pub(crate) fn sha256(&self) -> Thumbprint {
        let digest = digest(&SHA256, &self.der);
        Thumbprint::Sha256(digest.as_ref().try_into().unwrap())
    }

    /// Certificate and key, in this order.
    pub(crate) fn combined(&self) -> String {
        format!("{}{}", self.certificate, self.key)
    }
}

impl Authority {
    /// A root authority.
    pub(crate) fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(authority(name), key).unwrap())
    }

    /// An intermediate authority signed by this one.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(authority(name), key, &self.0).unwrap())
    }

    pub(crate) fn certificate(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn issue(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        Pair::new(&params.signed_by(&key, &self.0).unwrap(), &key)
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params_of_a_common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

/// A file in a folder.
pub(crate) fn written(folder: &Path, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, contents).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    path
}
