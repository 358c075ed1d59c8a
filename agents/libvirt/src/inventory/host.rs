//! The host.

use super::{document, get, part, set, text_at};
use crate::native::api::Node;
use std::net::IpAddr;
use union::{
    Kind, Record, Schema, Value,
    pb::{Connection, PowerState},
};
use wire::xml::Element;

const KIB: i64 = 1024;

/// What was asked of the host.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// `virNodeInfo` and more.
    pub node: Node,
    /// The capabilities document.
    pub capabilities: Option<std::sync::Arc<str>>,
    /// The SMBIOS document.
    pub sysinfo: Option<std::sync::Arc<str>>,
    /// Documents of its network devices.
    pub devices: Vec<std::sync::Arc<str>>,
}

/// The host's record; `address` is where it is reached.
pub fn lift(schema: &Schema, answers: &Answers, address: Option<IpAddr>) -> Record {
    let node = &answers.node;
    let mut host = schema.kind(Kind::Host).record();
    let h = &mut host;
    set(schema, h, "name", node.hostname.as_str());
    set(schema, h, "domain", node.hostname.split_once('.').map(|(_, domain)| Value::str(domain)));
    set(schema, h, "hypervisor", node.kind.as_str());
    set(schema, h, "hypervisor_version", version(node.version));
    set(schema, h, "arch", node.model.as_str());
    set(schema, h, "memory_bytes", node.memory_kib.saturating_mul(KIB));
    set(schema, h, "cpu_mhz", node.mhz);
    let packages = node.nodes.max(1).saturating_mul(node.sockets);
    set(schema, h, "cpu_packages", packages);
    set(schema, h, "cpu_cores", packages.saturating_mul(node.cores));
    set(schema, h, "cpu_threads", node.cpus);
    set(schema, h, "numa_nodes", node.nodes);
    set(schema, h, "max_vcpus", node.max_vcpus);
    set(schema, h, "connection", Connection::Connected as i32);
    set(schema, h, "power_state", PowerState::Running as i32);
    set(schema, h, "maintenance", false);
    set(schema, h, "management_ip", address.map(|a| Value::from(a.to_string())));
    if let Some(capabilities) =
        answers.capabilities.as_deref().and_then(|text| readable(text, "capabilities"))
    {
        let root = capabilities.root();
        set(schema, h, "uuid", text_at(root, "host/uuid").map(|u| Value::from(u.to_lowercase())));
        set(schema, h, "cpu_model", text_at(root, "host/cpu/model"));
        set(schema, h, "cpu_vendor", text_at(root, "host/cpu/vendor"));
        if let Some(arch) = text_at(root, "host/cpu/arch") {
            set(schema, h, "arch", arch);
        }
    }
    if let Some(sysinfo) = answers.sysinfo.as_deref().and_then(|text| readable(text, "sysinfo")) {
        let entry = |block: &str, name: &str| smbios(sysinfo.root(), block, name);
        set(schema, h, "vendor", entry("system", "manufacturer"));
        set(schema, h, "model", entry("system", "product"));
        if let Some(model) = entry("processor", "version") {
            set(schema, h, "cpu_model", model);
        }
    }
    if get(schema, h, "cpu_model").is_absent() {
        set(schema, h, "cpu_model", node.model.as_str());
    }
    let nics = answers.devices.iter().filter_map(|text| nic(schema, text));
    set(schema, h, "nics", Value::list(nics.map(Value::record)));
    host
}

fn readable(text: &str, what: &str) -> Option<wire::xml::Document> {
    document(text).inspect_err(|error| tracing::warn!(%error, "libvirt's {what} cannot be read")).ok()
}

/// `7002022` is `7.2.22`.
fn version(number: i64) -> Value {
    if number <= 0 {
        return Value::Absent;
    }
    Value::from(format!("{}.{}.{}", number / 1_000_000, number / 1000 % 1000, number % 1000))
}

fn smbios<'d>(root: Element<'d>, block: &str, name: &str) -> Option<&'d str> {
    let block = root.child(block)?;
    let entry = block.children_named("entry").find(|e| e.attribute("name") == Some(name))?;
    Some(entry.text().trim()).filter(|text| !text.is_empty())
}

/// More is a driver's way to say that it does not know.
const FASTEST_MBIT: i64 = 10_000_000;

/// A network device that is one: loopback, bridges, taps and other virtual ones have the computer for their parent.
fn nic(schema: &Schema, text: &str) -> Option<Record> {
    let document = readable(text, "device description")?;
    let mut capabilities = document.root().children_named("capability");
    let net = capabilities.find(|c| c.attribute("type") == Some("net"))?;
    let name = text_at(net, "interface")?;
    if name == "lo" || text_at(document.root(), "parent") == Some("computer") {
        return None;
    }
    let mut nic = part(schema, "PhysicalNic");
    set(schema, &mut nic, "name", name);
    set(schema, &mut nic, "mac", text_at(net, "address"));
    let link = net.child("link");
    let speed = link.and_then(|l| l.attribute("speed")).and_then(|s| s.parse::<i64>().ok());
    let speed = speed.filter(|s| (1..=FASTEST_MBIT).contains(s));
    set(schema, &mut nic, "speed_mbit", speed);
    set(schema, &mut nic, "up", link.and_then(|l| l.attribute("state")).map(|s| s == "up"));
    Some(nic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_lifted_from_what_it_answers() {
        let schema = Schema::base();
        let answers = Answers {
            node: Node {
                hostname: "n1.example.org".into(),
                kind: "QEMU".into(),
                version: 7_002_022,
                model: "x86_64".into(),
                memory_kib: 2048,
                cpus: 8,
                mhz: 2000,
                nodes: 2,
                sockets: 1,
                cores: 2,
                max_vcpus: Some(16),
            },
            capabilities: Some(
                "<capabilities><host><uuid>4C4C4544-0042-3510-8054-B7C04F4A5331</uuid><cpu><arch>x86_64</arch>\
                 <model>EPYC</model><vendor>AMD</vendor></cpu></host></capabilities>"
                    .into(),
            ),
            sysinfo: Some(
                "<sysinfo type='smbios'><system><entry name='manufacturer'>Acme</entry><entry name='product'>Box</entry></system></sysinfo>"
                    .into(),
            ),
            devices: vec![
                "<device><capability type='net'><interface>eth0</interface><address>52:54:00:00:00:01</address>\
                 <link speed='1000' state='up'/></capability></device>"
                    .into(),
                "<device><capability type='net'><interface>lo</interface></capability></device>".into(),
                "<device><parent>computer</parent><capability type='net'><interface>br0</interface></capability></device>"
                    .into(),
                "<broken".into(),
            ],
        };
        let host = lift(&schema, &answers, Some([192, 0, 2, 1].into()));
        let field = |name| get(&schema, &host, name).clone();
        assert_eq!(field("uuid"), Value::str("4c4c4544-0042-3510-8054-b7c04f4a5331"));
        assert_eq!(field("hypervisor_version"), Value::str("7.2.22"));
        assert_eq!((field("cpu_packages"), field("cpu_cores")), (Value::Int(2), Value::Int(4)));
        assert_eq!((field("vendor"), field("model")), (Value::str("Acme"), Value::str("Box")));
        assert_eq!((field("cpu_model"), field("cpu_vendor")), (Value::str("EPYC"), Value::str("AMD")));
        assert_eq!(
            (field("domain"), field("management_ip")),
            (Value::str("example.org"), Value::str("192.0.2.1"))
        );
        let nics = field("nics");
        assert_eq!(nics.items().len(), 1);
        let nic = nics.items()[0].as_record().unwrap();
        assert_eq!(get(&schema, nic, "speed_mbit"), &Value::Int(1000));
    }
}
