//! Our own certificate authority, made at first start, and the listeners' certificates (leaves).
//!
//! ```text
//! data_dir/ca.pem           the authority: 10 years, P-256; to be given to clients
//! data_dir/ca.key           its key, mode 0600
//! data_dir/tls/<name>.pem   a listener's leaf: 397 days, renewed in its last 30 days or when its names change
//! data_dir/tls/<name>.key   its key, mode 0600, kept through renewals
//! ```
//!
//! A leaf stays the same across restarts, so that clients that remember a thumbprint go on working.

mod files;

#[cfg(test)]
mod tests;

use crate::tls::{Certificate, provider};
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use rustls::{
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use union::{Clock, Ids};
use x509_parser::{extensions::GeneralName, prelude::X509Certificate};

const DAY_MS: i64 = 86_400_000;
const CA_DAYS: i64 = 3_650;
const LEAF_DAYS: i64 = 397;
/// A leaf this near its end is renewed.
const RENEW_DAYS: i64 = 30;
/// Clocks of clients that are behind by up to this still accept a new certificate.
const BEFORE_DAYS: i64 = 1;
/// Names of one leaf.
const NAMES: usize = 100;

/// Why there is no authority or no leaf.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The file system says no.
    #[error("{}", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// A key that others may read.
    #[error("{}: mode is {mode:03o}, expected 600; run chmod 600 on it", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file that does not hold what it should.
    #[error("{}: {message}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A name that no certificate can carry.
    #[error("\"{0}\" is neither a host name nor an address")]
    Name(String),
    /// More names than a leaf takes.
    #[error("more than {NAMES} names for one certificate")]
    Names,
    /// Making or signing a certificate failed.
    #[error("making a certificate")]
    Make(#[from] rcgen::Error),
    /// rustls does not take it.
    #[error("using a certificate")]
    Use(#[from] rustls::Error),
}

/// The authority.
pub struct Ca {
    dir: PathBuf,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Ca {
    /// Opens the authority in `dir`, or makes it there; `dir` is made too.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Result<Arc<Ca>, CaError> {
        files::make_dir(dir)?;
        let (pem_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
        let (pem, key) = match (files::read(&pem_path)?, files::read_key(&key_path)?) {
            (Some(pem), Some(key)) => (pem, key),
            (Some(_), None) => {
                let message =
                    "is missing beside ca.pem; restore it, or remove ca.pem to make a new authority";
                return Err(CaError::Content { path: key_path, message: message.to_owned() });
            }
            // A key alone is what a start leaves that was cut off between the two files.
            (None, key) => {
                let key = match key {
                    Some(key) => key,
                    None => files::make_key(&key_path)?,
                };
                let pem = authority(&*clock, &*ids)?.self_signed(&key)?.pem();
                files::write(&pem_path, &pem, 0o644)?;
                tracing::info!(path = %pem_path.display(), "made a certificate authority; give it to clients to trust");
                (pem, key)
            }
        };
        let content = |message: String| CaError::Content { path: pem_path.clone(), message };
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|e| content(format!("expected a PEM certificate: {e}")))?;
        let facts = Facts::read(&der).ok_or_else(|| content("expected an X.509 certificate".to_owned()))?;
        if facts.public_key != key.public_key_raw() {
            return Err(content(
                "is not the certificate of ca.key beside it; restore the pair, or remove both".to_owned(),
            ));
        }
        if facts.until_ms <= clock.now_ms() {
            return Err(content("has expired; remove ca.pem and ca.key to make a new authority".to_owned()));
        }
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Arc::new(Ca { dir: dir.to_owned(), pem, issuer, der, clock, ids }))
    }

    /// The authority's certificate, for clients to trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> Certificate {
        Certificate::new(self.der.clone())
    }

    /// The leaf of the listener `name` (letters, digits, `-`), made out to `names` (host names and addresses) and always to
    /// localhost and the loopback addresses: the one on disk when it fits and does not end soon, else a new one.
    pub fn leaf(self: &Arc<Ca>, name: &str, names: &[String]) -> Result<Leaf, CaError> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(CaError::Name(name.to_owned()));
        }
        let mut all: BTreeSet<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        for name in names {
            all.insert(normal(name)?);
        }
        if all.len() > NAMES {
            return Err(CaError::Names);
        }
        let dir = self.dir.join("tls");
        files::make_dir(&dir)?;
        let (pem_path, key_path) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        let key = match files::read_key(&key_path)? {
            Some(key) => key,
            None => files::make_key(&key_path)?,
        };
        let held =
            files::read(&pem_path)?.and_then(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok());
        let leaf = Leaf { ca: Arc::clone(self), names: all, pem_path, key, held: Mutex::new(None) };
        match held.filter(|held| leaf.fits(held)) {
            Some(held) => *leaf.held.lock() = Some(held),
            None => leaf.make()?,
        }
        Ok(leaf)
    }
}

/// A listener's certificate and key.
pub struct Leaf {
    ca: Arc<Ca>,
    names: BTreeSet<String>,
    pem_path: PathBuf,
    key: KeyPair,
    held: Mutex<Option<CertificateDer<'static>>>,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf")
            .field("path", &self.pem_path)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Leaf {
    /// What it is made out to.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Makes a new certificate for the same key and names when the present one ends within 30 days.
    pub fn renew_if_due(&self) -> Result<bool, CaError> {
        let due = self.held.lock().as_ref().is_none_or(|held| !self.fits(held));
        if due {
            self.make()?;
        }
        Ok(due)
    }

    fn fits(&self, held: &CertificateDer<'_>) -> bool {
        Facts::read(held).is_some_and(|facts| {
            facts.public_key == self.key.public_key_raw()
                && facts.names == self.names
                && facts.until_ms - self.ca.clock.now_ms() > RENEW_DAYS * DAY_MS
                && facts.from_ms <= self.ca.clock.now_ms()
                && Facts::is_signed_by(held, &self.ca.der)
        })
    }

    fn make(&self) -> Result<(), CaError> {
        let mut params = CertificateParams::new(self.names.iter().cloned().collect::<Vec<_>>())?;
        let main = self.names.iter().find(|n| *n != "localhost" && n.parse::<IpAddr>().is_err());
        frame(
            &mut params,
            main.map_or("localhost", String::as_str),
            LEAF_DAYS,
            &*self.ca.clock,
            &*self.ca.ids,
        );
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let made = params.signed_by(&self.key, &self.ca.issuer)?;
        files::write(&self.pem_path, &made.pem(), 0o644)?;
        *self.held.lock() = Some(made.der().clone());
        Ok(())
    }

    /// What rustls shows: the leaf and the authority.
    pub(crate) fn certified(&self) -> Result<(Arc<CertifiedKey>, Arc<Certificate>), CaError> {
        let held = self.held.lock().clone().ok_or(CaError::Names)?;
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        let chain = vec![held.clone(), self.ca.der.clone()];
        let certified = CertifiedKey::from_der(chain, key.into(), &provider())?;
        Ok((Arc::new(certified), Arc::new(Certificate::new(held))))
    }
}

fn authority(clock: &dyn Clock, ids: &dyn Ids) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::new(Vec::new())?;
    frame(&mut params, "hyperglot authority", CA_DAYS, clock, ids);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Name, validity and a random serial number: one key may get several certificates, which must not share theirs.
fn frame(params: &mut CertificateParams, name: &str, days: i64, clock: &dyn Clock, ids: &dyn Ids) {
    let mut serial = [0; 16];
    ids.fill(&mut serial);
    // Positive and of the same length always.
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x3f | 0x40;
    }
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "hyperglot");
    // A common name holds at most 64 characters.
    params.distinguished_name.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    let day = |n: i64| {
        let ms = clock.now_ms().saturating_add(n * DAY_MS).max(0);
        date_time_ymd(1970, 1, 1) + Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    };
    params.not_before = day(-BEFORE_DAYS);
    params.not_after = day(days);
}

/// A host name in lower case or an address in its usual form.
fn normal(name: &str) -> Result<String, CaError> {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(ip.to_string());
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let bare = name.strip_prefix("*.").unwrap_or(name);
    if name.len() <= 253 && bare.split('.').all(label) {
        Ok(name.to_ascii_lowercase())
    } else {
        Err(CaError::Name(name.to_owned()))
    }
}

/// What is read out of a certificate.
struct Facts {
    public_key: Vec<u8>,
    names: BTreeSet<String>,
    from_ms: i64,
    until_ms: i64,
}

impl Facts {
    fn read(der: &CertificateDer<'_>) -> Option<Facts> {
        let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
        let names = parsed
            .subject_alternative_name()
            .ok()?
            .map(|ext| ext.value.general_names.iter().filter_map(text));
        Some(Facts {
            public_key: parsed.public_key().subject_public_key.data.to_vec(),
            names: names.into_iter().flatten().collect(),
            from_ms: parsed.validity().not_before.timestamp().saturating_mul(1_000),
            until_ms: parsed.validity().not_after.timestamp().saturating_mul(1_000),
        })
    }

    /// By name and key identifier, not by signature: what this compares with lies in our own directory.
    fn is_signed_by(leaf: &CertificateDer<'_>, ca: &CertificateDer<'_>) -> bool {
        let parse = |der| x509_parser::parse_x509_certificate(der).ok().map(|(_, parsed)| parsed);
        let (Some(leaf), Some(ca)) = (parse(leaf), parse(ca)) else { return false };
        leaf.issuer().as_raw() == ca.subject().as_raw()
            && authority_key(&leaf).is_some_and(|id| Some(id) == own_key(&ca))
    }
}

fn authority_key(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate.extensions().iter().find_map(|ext| match ext.parsed_extension() {
        x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => {
            id.key_identifier.as_ref().map(|id| id.0.to_vec())
        }
        _ => None,
    })
}

fn own_key(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate.extensions().iter().find_map(|ext| match ext.parsed_extension() {
        x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
            _ => None,
        },
        _ => None,
    }
}
