//! The questions a reader asks, each a call or two, with plain answers.

use super::{call::CallError, connection::Connection};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use uuid::Uuid;
use wire::xdr::XdrValue;

/// `VIR_ERR_NO_SUPPORT`: this driver does not have the call.
pub const NO_SUPPORT: i64 = 3;
/// `VIR_ERR_NO_DOMAIN`.
pub const NO_DOMAIN: i64 = 42;
/// `VIR_ERR_NO_NETWORK`.
pub const NO_NETWORK: i64 = 43;
/// `VIR_ERR_NO_STORAGE_POOL`.
pub const NO_POOL: i64 = 49;
/// `VIR_ERR_NO_STORAGE_VOL`.
pub const NO_VOLUME: i64 = 50;

/// What libvirt names a domain, network or pool by.
#[derive(Clone, Debug, PartialEq)]
pub struct Handle {
    /// Its name.
    pub name: Arc<str>,
    /// Its uuid.
    pub uuid: Uuid,
    /// As it travels.
    pub wire: XdrValue,
}

impl Handle {
    /// Of a domain: libvirt's drivers find it by its uuid, whatever its name and number.
    pub fn new(name: &str, uuid: Uuid) -> Option<Handle> {
        let schema = super::schema().ok()?;
        let name: Arc<str> = Arc::from(name);
        let fields = vec![
            ("name", XdrValue::Text(name.clone())),
            ("uuid", uuid_value(uuid)),
            ("id", XdrValue::Int(-1)),
        ];
        let wire = wire::xdr::record(schema.structure("remote_nonnull_domain")?, fields).ok()?;
        Some(Handle { name, uuid, wire })
    }

    /// From a struct with `name` and `uuid`.
    pub fn from_value(value: &XdrValue) -> Option<Handle> {
        let name = value.get("name")?.as_text()?.clone();
        let uuid = Uuid::from_slice(value.get("uuid")?.as_bytes()?).ok()?;
        Some(Handle { name, uuid, wire: value.inner()?.clone() })
    }
}

/// `virNodeInfo` with the host's name, driver and versions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// The host's name.
    pub hostname: String,
    /// The driver, for example `QEMU`.
    pub kind: String,
    /// The hypervisor's version, `major * 1,000,000 + minor * 1,000 + release`.
    pub version: i64,
    /// The CPU's architecture.
    pub model: String,
    /// KiB.
    pub memory_kib: i64,
    /// Logical CPUs.
    pub cpus: i64,
    /// MHz.
    pub mhz: i64,
    /// NUMA cells.
    pub nodes: i64,
    /// Sockets a cell.
    pub sockets: i64,
    /// Cores a socket.
    pub cores: i64,
    /// Most virtual CPUs a domain may have.
    pub max_vcpus: Option<i64>,
}

/// `virDomainGetState` with what else says whether a domain runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// `virDomainState`.
    pub state: i64,
    /// Its memory is saved.
    pub saved: bool,
    /// It starts with the host.
    pub autostart: bool,
    /// It is known when it does not run.
    pub persistent: bool,
}

/// Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// What it can hold.
    pub capacity: i64,
    /// What it takes.
    pub allocation: i64,
    /// What is left; of a volume 0.
    pub available: i64,
}

/// A volume's handle and documents.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its name in the pool.
    pub name: Arc<str>,
    /// Its key.
    pub key: Arc<str>,
    /// Its sizes.
    pub sizes: Sizes,
    /// Its description.
    pub xml: Arc<str>,
}

/// A connection that is asked with a deadline for each call.
#[derive(Clone)]
pub struct Api {
    /// The connection.
    pub connection: Connection,
    /// How long a call may take.
    pub patience: Duration,
}

type Args<'a> = Vec<(&'a str, XdrValue)>;

fn int(value: &XdrValue, path: &str) -> i64 {
    value.get(path).and_then(XdrValue::as_int).unwrap_or(0)
}

fn text(value: &XdrValue, path: &str) -> Arc<str> {
    value.get(path).and_then(XdrValue::as_text).cloned().unwrap_or_default()
}

fn handles(value: &XdrValue, path: &str) -> Vec<Handle> {
    value.get(path).map(|v| v.items().iter().filter_map(Handle::from_value).collect()).unwrap_or_default()
}

/// `None` where libvirt says that this driver cannot answer, or that the object is in no state to.
pub fn if_supported<T>(answer: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(CallError::Native(error)) => {
            tracing::debug!(%error, "a question this libvirt does not answer");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Api {
    /// One call with this connection's patience.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub async fn call(&self, procedure: &str, args: Args<'_>) -> Result<XdrValue, CallError> {
        self.connection.call(procedure, args, Instant::now() + self.patience).await
    }

    async fn flag(&self, procedure: &str, args: Args<'_>, field: &str) -> Result<bool, CallError> {
        Ok(if_supported(self.call(procedure, args).await)?.is_some_and(|answer| int(&answer, field) == 1))
    }

    /// What the host is.
    pub async fn node(&self) -> Result<Node, CallError> {
        let hostname = self.call("CONNECT_GET_HOSTNAME", vec![]).await?;
        let kind = self.call("CONNECT_GET_TYPE", vec![]).await?;
        let version = if_supported(self.call("CONNECT_GET_VERSION", vec![]).await)?;
        let info = self.call("NODE_GET_INFO", vec![]).await?;
        let max = if_supported(self.call("CONNECT_GET_MAX_VCPUS", vec![]).await)?;
        Ok(Node {
            hostname: text(&hostname, "hostname").to_string(),
            kind: text(&kind, "type").to_string(),
            version: version.map_or(0, |v| int(&v, "hv_ver")),
            model: info.get("model").and_then(XdrValue::as_c_text).unwrap_or_default(),
            memory_kib: int(&info, "memory"),
            cpus: int(&info, "cpus"),
            mhz: int(&info, "mhz"),
            nodes: int(&info, "nodes"),
            sockets: int(&info, "sockets"),
            cores: int(&info, "cores"),
            max_vcpus: max.map(|v| int(&v, "max_vcpus")),
        })
    }

    /// The capabilities document.
    pub async fn capabilities(&self) -> Result<Option<Arc<str>>, CallError> {
        let answer = if_supported(self.call("CONNECT_GET_CAPABILITIES", vec![]).await)?;
        Ok(answer.map(|a| text(&a, "capabilities")))
    }

    /// The SMBIOS document.
    pub async fn sysinfo(&self) -> Result<Option<Arc<str>>, CallError> {
        Ok(if_supported(self.call("CONNECT_GET_SYSINFO", vec![]).await)?.map(|a| text(&a, "sysinfo")))
    }

    /// The description of each network device of the host.
    pub async fn network_devices(&self) -> Result<Vec<Arc<str>>, CallError> {
        /// `VIR_CONNECT_LIST_NODE_DEVICES_CAP_NET`
        const NET: u32 = 1 << 4;
        let args = vec![("need_results", XdrValue::Int(1)), ("flags", XdrValue::Uint(NET))];
        let Some(list) = if_supported(self.call("CONNECT_LIST_ALL_NODE_DEVICES", args).await)? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for device in list.get("devices").map(XdrValue::items).unwrap_or_default() {
            let args = vec![("name", XdrValue::Text(text(device, "name")))];
            let xml = if_supported(self.call("NODE_DEVICE_GET_XML_DESC", args).await)?;
            found.extend(xml.map(|x| text(&x, "xml")));
        }
        Ok(found)
    }

    /// All domains.
    pub async fn domains(&self) -> Result<Vec<Handle>, CallError> {
        let args = vec![("need_results", XdrValue::Int(1))];
        Ok(handles(&self.call("CONNECT_LIST_ALL_DOMAINS", args).await?, "domains"))
    }

    /// The domain with this uuid; `None`: there is none.
    pub async fn domain(&self, uuid: Uuid) -> Result<Option<Handle>, CallError> {
        self.lookup("DOMAIN_LOOKUP_BY_UUID", "dom", uuid, NO_DOMAIN).await
    }

    /// The domain with this name; `None`: there is none.
    pub async fn domain_named(&self, name: &str) -> Result<Option<Handle>, CallError> {
        match self.call("DOMAIN_LOOKUP_BY_NAME", vec![("name", XdrValue::text(name))]).await {
            Ok(answer) => Ok(answer.get("dom").and_then(Handle::from_value)),
            Err(error) if error.native_code() == Some(NO_DOMAIN) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The network with this uuid; `None`: there is none.
    pub async fn network(&self, uuid: Uuid) -> Result<Option<Handle>, CallError> {
        self.lookup("NETWORK_LOOKUP_BY_UUID", "net", uuid, NO_NETWORK).await
    }

    /// The pool with this uuid; `None`: there is none.
    pub async fn pool(&self, uuid: Uuid) -> Result<Option<Handle>, CallError> {
        self.lookup("STORAGE_POOL_LOOKUP_BY_UUID", "pool", uuid, NO_POOL).await
    }

    async fn lookup(
        &self,
        procedure: &str,
        field: &str,
        uuid: Uuid,
        absent: i64,
    ) -> Result<Option<Handle>, CallError> {
        match self.call(procedure, vec![("uuid", uuid_value(uuid))]).await {
            Ok(answer) => Ok(answer.get(field).and_then(Handle::from_value)),
            Err(error) if error.native_code() == Some(absent) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A domain's document, without its secrets: as it runs if it runs.
    pub async fn domain_xml(&self, dom: &Handle) -> Result<Arc<str>, CallError> {
        Ok(text(&self.call("DOMAIN_GET_XML_DESC", vec![("dom", dom.wire.clone())]).await?, "xml"))
    }

    /// A domain's document in the form that `flags` (`virDomainXMLFlags`) ask for.
    pub async fn domain_document(&self, dom: &Handle, flags: u32) -> Result<Arc<str>, CallError> {
        let args = vec![("dom", dom.wire.clone()), ("flags", XdrValue::Uint(flags))];
        Ok(text(&self.call("DOMAIN_GET_XML_DESC", args).await?, "xml"))
    }

    /// Whether there is a volume with this key.
    pub async fn volume_exists(&self, key: &str) -> Result<bool, CallError> {
        match self.call("STORAGE_VOL_LOOKUP_BY_KEY", vec![("key", XdrValue::text(key))]).await {
            Ok(_) => Ok(true),
            Err(error) if error.native_code() == Some(NO_VOLUME) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a domain runs, and whether it is persistent; whether its memory is saved only if asked for, for that says something only of
    /// one that does not run.
    pub async fn domain_state(&self, dom: &Handle, saved: bool) -> Result<State, CallError> {
        let args = || vec![("dom", dom.wire.clone())];
        let saved = async {
            match saved {
                true => self.is_saved(dom).await,
                false => Ok(false),
            }
        };
        let (state, persistent, saved) = tokio::try_join!(
            self.call("DOMAIN_GET_STATE", args()),
            self.flag("DOMAIN_IS_PERSISTENT", args(), "persistent"),
            saved,
        )?;
        Ok(State { state: int(&state, "state"), saved, autostart: false, persistent })
    }

    /// Whether a domain's memory is saved.
    pub async fn is_saved(&self, dom: &Handle) -> Result<bool, CallError> {
        self.flag("DOMAIN_HAS_MANAGED_SAVE_IMAGE", vec![("dom", dom.wire.clone())], "result").await
    }

    /// Whether a domain starts with its host.
    pub async fn autostart(&self, dom: &Handle) -> Result<bool, CallError> {
        self.flag("DOMAIN_GET_AUTOSTART", vec![("dom", dom.wire.clone())], "autostart").await
    }

    /// The sizes of what stands behind a domain's disk.
    pub async fn disk_sizes(&self, dom: &Handle, target: &str) -> Result<Option<Sizes>, CallError> {
        let args = vec![("dom", dom.wire.clone()), ("path", XdrValue::text(target))];
        let info = if_supported(self.call("DOMAIN_GET_BLOCK_INFO", args).await)?;
        Ok(info.map(|info| Sizes {
            capacity: int(&info, "capacity"),
            allocation: int(&info, "allocation"),
            available: 0,
        }))
    }

    /// A domain's snapshots' documents, and the name of the current one.
    pub async fn snapshots(&self, dom: &Handle) -> Result<(Vec<Arc<str>>, Option<Arc<str>>), CallError> {
        let args = vec![("dom", dom.wire.clone()), ("need_results", XdrValue::Int(1))];
        let Some(list) = if_supported(self.call("DOMAIN_LIST_ALL_SNAPSHOTS", args).await)? else {
            return Ok((Vec::new(), None));
        };
        let list = list.get("snapshots").map(XdrValue::items).unwrap_or_default();
        if list.is_empty() {
            return Ok((Vec::new(), None));
        }
        let mut documents = Vec::new();
        for snapshot in list {
            let args = vec![("snap", snapshot.clone())];
            let xml = if_supported(self.call("DOMAIN_SNAPSHOT_GET_XML_DESC", args).await)?;
            documents.extend(xml.map(|x| text(&x, "xml")));
        }
        let current = self.call("DOMAIN_SNAPSHOT_CURRENT", vec![("dom", dom.wire.clone())]).await;
        Ok((documents, if_supported(current)?.map(|c| text(&c, "snap.name"))))
    }

    /// The addresses of a running guest: (MAC, addresses) as the DHCP server of its networks knows them (`source` 0) or as its agent
    /// tells them (`source` 1).
    pub async fn addresses(
        &self,
        dom: &Handle,
        source: u32,
    ) -> Result<Vec<(String, Vec<String>)>, CallError> {
        let args = vec![("dom", dom.wire.clone()), ("source", XdrValue::Uint(source))];
        let Some(answer) = if_supported(self.call("DOMAIN_INTERFACE_ADDRESSES", args).await)? else {
            return Ok(Vec::new());
        };
        let interfaces = answer.get("ifaces").map(XdrValue::items).unwrap_or_default();
        Ok(interfaces
            .iter()
            .filter_map(|i| {
                let mac = i.get("hwaddr")?.as_text()?.to_lowercase();
                let addresses = i.get("addrs").map(XdrValue::items).unwrap_or_default();
                Some((mac, addresses.iter().map(|a| text(a, "addr").to_string()).collect()))
            })
            .collect())
    }

    /// The guest's own name, as its agent tells it.
    pub async fn guest_hostname(&self, dom: &Handle) -> Result<Option<Arc<str>>, CallError> {
        /// `VIR_DOMAIN_GET_HOSTNAME_AGENT`
        const AGENT: u32 = 1 << 1;
        let args = vec![("dom", dom.wire.clone()), ("flags", XdrValue::Uint(AGENT))];
        Ok(if_supported(self.call("DOMAIN_GET_HOSTNAME", args).await)?.map(|a| text(&a, "hostname")))
    }

    /// All networks; none where the driver has no networks.
    pub async fn networks(&self) -> Result<Vec<Handle>, CallError> {
        let args = vec![("need_results", XdrValue::Int(1))];
        let answer = if_supported(self.call("CONNECT_LIST_ALL_NETWORKS", args).await)?;
        Ok(answer.map(|a| handles(&a, "nets")).unwrap_or_default())
    }

    /// A network's document, and whether it is (active, started with the host, persistent).
    pub async fn network_facts(&self, net: &Handle) -> Result<(Arc<str>, [bool; 3]), CallError> {
        let args = || vec![("net", net.wire.clone())];
        let xml = text(&self.call("NETWORK_GET_XML_DESC", args()).await?, "xml");
        let active = self.flag("NETWORK_IS_ACTIVE", args(), "active").await?;
        let autostart = self.flag("NETWORK_GET_AUTOSTART", args(), "autostart").await?;
        let persistent = self.flag("NETWORK_IS_PERSISTENT", args(), "persistent").await?;
        Ok((xml, [active, autostart, persistent]))
    }

    /// All pools; none where the driver has no storage.
    pub async fn pools(&self) -> Result<Vec<Handle>, CallError> {
        let args = vec![("need_results", XdrValue::Int(1))];
        let answer = if_supported(self.call("CONNECT_LIST_ALL_STORAGE_POOLS", args).await)?;
        Ok(answer.map(|a| handles(&a, "pools")).unwrap_or_default())
    }

    /// A pool's document, sizes, and whether it is (active, started with the host, persistent).
    pub async fn pool_facts(&self, pool: &Handle) -> Result<(Arc<str>, Sizes, [bool; 3]), CallError> {
        let args = || vec![("pool", pool.wire.clone())];
        let xml = text(&self.call("STORAGE_POOL_GET_XML_DESC", args()).await?, "xml");
        let info = if_supported(self.call("STORAGE_POOL_GET_INFO", args()).await)?;
        let sizes = info.map_or_else(Sizes::default, |info| Sizes {
            capacity: int(&info, "capacity"),
            allocation: int(&info, "allocation"),
            available: int(&info, "available"),
        });
        let active = self.flag("STORAGE_POOL_IS_ACTIVE", args(), "active").await?;
        let autostart = self.flag("STORAGE_POOL_GET_AUTOSTART", args(), "autostart").await?;
        let persistent = self.flag("STORAGE_POOL_IS_PERSISTENT", args(), "persistent").await?;
        Ok((xml, sizes, [active, autostart, persistent]))
    }

    /// The volumes of an active pool. One that goes while they are read is left out.
    pub async fn volumes(&self, pool: &Handle) -> Result<Vec<Volume>, CallError> {
        let args = vec![("pool", pool.wire.clone()), ("need_results", XdrValue::Int(1))];
        let Some(list) = if_supported(self.call("STORAGE_POOL_LIST_ALL_VOLUMES", args).await)? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for volume in list.get("vols").map(XdrValue::items).unwrap_or_default() {
            let args = || vec![("vol", volume.clone())];
            let info = if_supported(self.call("STORAGE_VOL_GET_INFO", args()).await)?;
            let xml = if_supported(self.call("STORAGE_VOL_GET_XML_DESC", args()).await)?;
            let Some((info, xml)) = info.zip(xml) else { continue };
            found.push(Volume {
                name: text(volume, "name"),
                key: text(volume, "key"),
                sizes: Sizes {
                    capacity: int(&info, "capacity"),
                    allocation: int(&info, "allocation"),
                    available: 0,
                },
                xml: text(&xml, "xml"),
            });
        }
        Ok(found)
    }

    /// The host's counters: memory in KiB or CPU time in ns, by name.
    pub async fn node_counters(
        &self,
        procedure: &str,
        cell: &str,
    ) -> Result<Vec<(Arc<str>, i64)>, CallError> {
        let args = |n| vec![(cell, XdrValue::Int(-1)), ("nparams", XdrValue::Int(n))];
        let Some(count) = if_supported(self.call(procedure, args(0)).await)? else { return Ok(Vec::new()) };
        let count = i32::try_from(int(&count, "nparams")).unwrap_or(0);
        let Some(answer) = if_supported(self.call(procedure, args(count)).await)? else {
            return Ok(Vec::new());
        };
        let params = answer.get("params").map(XdrValue::items).unwrap_or_default();
        Ok(params.iter().map(|p| (text(p, "field"), int(p, "value"))).collect())
    }

    /// The figures of all active domains in one call. Never waits for a domain that is busy.
    pub async fn domain_stats(&self) -> Result<Vec<(Handle, Vec<(Arc<str>, XdrValue)>)>, CallError> {
        /// `STATE | CPU_TOTAL | BALLOON | VCPU`
        const GROUPS: u32 = 1 | 1 << 1 | 1 << 2 | 1 << 3;
        /// `ACTIVE | NOWAIT`
        const FLAGS: u32 = 1 | 1 << 29;
        let args = vec![("stats", XdrValue::Uint(GROUPS)), ("flags", XdrValue::Uint(FLAGS))];
        let Some(answer) = if_supported(self.call("CONNECT_GET_ALL_DOMAIN_STATS", args).await)? else {
            return Ok(Vec::new());
        };
        let records = answer.get("retStats").map(XdrValue::items).unwrap_or_default();
        Ok(records
            .iter()
            .filter_map(|record| {
                let dom = Handle::from_value(record.get("dom")?)?;
                let params = record.get("params").map(XdrValue::items).unwrap_or_default();
                let params = params.iter().filter_map(|p| Some((text(p, "field"), p.get("value")?.clone())));
                Some((dom, params.collect()))
            })
            .collect())
    }

    /// How far a domain's job is, 0 to 100; `None`: there is none, or it does not say.
    pub async fn job_progress(&self, dom: &Handle) -> Result<Option<u8>, CallError> {
        let Some(job) =
            if_supported(self.call("DOMAIN_GET_JOB_INFO", vec![("dom", dom.wire.clone())]).await)?
        else {
            return Ok(None);
        };
        // 1 is a job with an end in sight, 2 one without.
        let (total, done) = (int(&job, "dataTotal"), int(&job, "dataProcessed"));
        if !(1..=2).contains(&int(&job, "type")) || total <= 0 {
            return Ok(None);
        }
        let percent = i128::from(done) * 100 / i128::from(total);
        Ok(Some(u8::try_from(percent.clamp(0, 100)).unwrap_or(0)))
    }
}

/// A uuid as it travels.
pub fn uuid_value(uuid: Uuid) -> XdrValue {
    XdrValue::Bytes(Arc::from(uuid.as_bytes().as_slice()))
}
