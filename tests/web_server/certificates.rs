//! Generates the certificates of a test: an authority, the exporter and its clients.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
    der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Identity {
    fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
            key_der: key.serialize_der(),
        }
    }

    /// Self-signed and marked as an authority, as `openssl req -x509` does by default.
    pub(crate) fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = client(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self::new(&params.self_signed(&key).unwrap(), &key)
    }

    /// A certificate with a key that is not its own.
    pub(crate) fn with_key_of(certified: &Self, keyed: &Self) -> Self {
        Self {
            certificate: certified.certificate.clone(),
            key: keyed.key.clone(),
            der: certified.der.clone(),
            key_der: keyed.key_der.clone(),
        }
    }

    pub(crate) fn for_client(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivateKeyDer::try_from(self.key_der.clone()).unwrap();
        (vec![self.der.clone()], key)
    }

    pub(crate) fn write(&self, folder: &Path, name: &str) {
        fs::write(folder.join(format!("{name}.crt")), &self.certificate).unwrap();
        fs::write(folder.join(format!("{name}.key")), &self.key).unwrap();
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::with(CertificateParams::new(Vec::new()).unwrap())
    }

    /// Valid in the given years only.
    pub(crate) fn in_years(first: i32, last: i32) -> Self {
        Self::with(client_in_years("authority", first, last))
    }

    /// Signs certificates although its own is not marked as an authority.
    pub(crate) fn not_marked() -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(client("not an authority"), key).unwrap())
    }

    fn with(mut params: CertificateParams) -> Self {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Its own certificate and key, to use as a client.
    pub(crate) fn identity(&self) -> Identity {
        Identity::new(self.0.as_ref(), self.0.key())
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn signed(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity::new(&params.signed_by(&key, &self.0).unwrap(), &key)
    }

    /// A certificate for `localhost`.
    pub(crate) fn server(&self) -> Identity {
        self.signed(&CertificateParams::new(vec!["localhost".to_owned()]).unwrap())
    }
}

/// The parameters of a client certificate with alternative names of every kind.
pub(crate) fn client(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names.extend([
        SanType::Rfc822Name("scraper@example.org".try_into().unwrap()),
        SanType::URI("spiffe://example.org/scraper".try_into().unwrap()),
        SanType::IpAddress(IpAddr::from([192, 0, 2, 7])),
        SanType::IpAddress("2001:db8::7".parse().unwrap()),
        SanType::IpAddress("::ffff:198.51.100.7".parse().unwrap()),
    ]);
    params
}

/// A client certificate with the extended key usage of a server only.
pub(crate) fn client_for_servers_only(name: &str) -> CertificateParams {
    let mut params = client(name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// A client certificate that is valid in the given years only.
pub(crate) fn client_in_years(name: &str, first: i32, last: i32) -> CertificateParams {
    let mut params = client(name);
    params.not_before = date_time_ymd(first, 1, 1);
    params.not_after = date_time_ymd(last, 1, 1);
    params
}
