//! A VM's configuration file, made from what its `config` property shows, so that both tell the same.
//!
//! One reader of such files, libvirt's esx driver, takes `virsh dumpxml` from it and is strict: memory in multiples of 4 MB, disks named
//! `*.vmdk`, images `*.iso`, adapters and controllers of known models only. Files beside the VM's own go by their plain name, others by
//! the mount path of their datastore.
//!
//! Limits of the form: 4 SCSI controllers, 2 IDE, 4 SATA, 10 network adapters; what does not fit is left out.

use crate::{
    inventory::Catalog,
    native::{Node, TreeEmit},
};
use std::fmt::Write;
use union::{Kind, ObjectId};

/// Controller types, their names in the file, their models, how many there may be.
const CONTROLLERS: &[(&str, &str, Option<&str>, i64)] = &[
    ("ParaVirtualSCSIController", "scsi", Some("pvscsi"), 4),
    ("VirtualLsiLogicController", "scsi", Some("lsilogic"), 4),
    ("VirtualLsiLogicSASController", "scsi", Some("lsisas1068"), 4),
    ("VirtualBusLogicController", "scsi", Some("buslogic"), 4),
    ("VirtualAHCIController", "sata", None, 4),
    ("VirtualIDEController", "ide", None, 2),
];

/// Adapter types and their models in the file.
const ADAPTERS: &[(&str, &str)] = &[
    ("VirtualVmxnet3", "vmxnet3"),
    ("VirtualVmxnet2", "vmxnet"),
    ("VirtualE1000e", "e1000e"),
    ("VirtualE1000", "e1000"),
    ("VirtualPCNet32", "vlance"),
];

/// The keys of a VM's display, and the one a reader cannot do without.
const VNC: &str = "RemoteDisplay.vnc.";
const VNC_PORT: &str = "RemoteDisplay.vnc.port";

/// The file of a VM; `None`: it is gone.
pub(crate) fn render(catalog: &Catalog, vm: ObjectId) -> Option<String> {
    let config = property(catalog, vm, "config")?;
    let mut file = File {
        text: String::new(),
        home: config.get("files.vmPathName").unwrap_or_default().to_owned(),
        catalog,
    };
    file.head(&config);
    let hardware = config.child("hardware")?;
    let devices: Vec<&Node> = hardware.all("device").collect();
    let mut adapters = 0;
    for device in &devices {
        if let Some((_, name, model, most)) = CONTROLLERS.iter().find(|(ty, ..)| *ty == &*device.ty) {
            let bus = device.int("busNumber").unwrap_or(0);
            if bus < *most && *name != "ide" {
                file.line(&format!("{name}{bus}.present"), "TRUE");
                if let Some(model) = model {
                    file.line(&format!("{name}{bus}.virtualDev"), model);
                }
            }
        }
    }
    for device in &devices {
        match &*device.ty {
            "VirtualDisk" => file.disk(device, &devices),
            "VirtualCdrom" => file.cdrom(device, &devices),
            ty if adapters < 10 => {
                if let Some((_, model)) = ADAPTERS.iter().find(|(known, _)| *known == ty) {
                    file.adapter(device, adapters, model);
                    adapters += 1;
                }
            }
            _ => {}
        }
    }
    file.line("floppy0.present", "FALSE");
    let options: Vec<(&str, &str)> =
        config.all("extraConfig").filter_map(|o| o.get("key").zip(o.get("value"))).collect();
    let has_port = options.iter().any(|(key, _)| *key == VNC_PORT);
    for (key, value) in options {
        // A display whose port is not known yet is none that a reader could use.
        if has_port || !key.starts_with(VNC) {
            file.line(key, value);
        }
    }
    Some(file.text)
}

/// A property of an object as a tree.
fn property(catalog: &Catalog, id: ObjectId, path: &str) -> Option<Node> {
    let (record, map) = catalog.shown(id)?;
    let selection = map.select(path, catalog.newest()).ok()?;
    let mut tree = TreeEmit::default();
    map.render(&selection, id, &record, catalog, catalog.newest(), &mut tree);
    tree.finish()
}

struct File<'a> {
    text: String,
    home: String,
    catalog: &'a Catalog,
}

impl File<'_> {
    /// `key = "value"`; what the form cannot hold in quotes is written `|22`.
    fn line(&mut self, key: &str, value: &str) {
        if key.chars().any(|c| c.is_control() || c == '=' || c == '"' || c == '#') {
            return;
        }
        self.text.push_str(key);
        self.text.push_str(" = \"");
        for c in value.chars() {
            match c {
                // Writing into a String cannot fail.
                '"' | '|' => write!(self.text, "|{:02X}", u32::from(c)).unwrap_or_default(),
                c if c.is_control() => write!(self.text, "|{:02X}", u32::from(c)).unwrap_or_default(),
                c => self.text.push(c),
            }
        }
        self.text.push_str("\"\n");
    }

    fn head(&mut self, config: &Node) {
        self.line(".encoding", "UTF-8");
        self.line("config.version", "8");
        let version = config
            .get("version")
            .and_then(|v| v.strip_prefix("vmx-"))
            .map_or("13", |v| v.trim_start_matches('0'));
        self.line("virtualHW.version", version);
        if let Some(uuid) = config.get("uuid").and_then(spaced) {
            self.line("uuid.bios", &uuid);
        }
        if let Some(uuid) = config.get("instanceUuid").and_then(spaced) {
            self.line("vc.uuid", &uuid);
        }
        self.line("displayName", &config.get("name").unwrap_or_default().replace('%', "%25"));
        if let Some(annotation) = config.get("annotation").filter(|text| !text.is_empty()) {
            self.line("annotation", annotation);
        }
        let memory = config.int("hardware.memoryMB").unwrap_or(4).max(4);
        self.line("memsize", &((memory + 3) / 4 * 4).to_string());
        self.line("numvcpus", config.get("hardware.numCPU").unwrap_or("1"));
        if let Some(cores) = config.get("hardware.numCoresPerSocket") {
            self.line("cpuid.coresPerSocket", cores);
        }
        self.line("guestOS", &guest_os(config.get("guestId").unwrap_or("otherGuest64")));
        if config.get("firmware") == Some("efi") {
            self.line("firmware", "efi");
        }
    }

    /// Where a device is plugged in: `scsi0:1`.
    fn place(&self, device: &Node, devices: &[&Node]) -> Option<String> {
        let controller = device.get("controllerKey")?;
        let controller = devices.iter().find(|d| d.get("key") == Some(controller))?;
        let (_, name, _, most) = CONTROLLERS.iter().find(|(ty, ..)| *ty == &*controller.ty)?;
        let bus = controller.int("busNumber").unwrap_or(0);
        let unit = device.int("unitNumber").unwrap_or(0);
        (bus < *most).then(|| format!("{name}{bus}:{unit}"))
    }

    fn disk(&mut self, device: &Node, devices: &[&Node]) {
        let Some(place) = self.place(device, devices) else { return };
        let Some(name) = device.get("backing.fileName") else { return };
        let mut name = self.file_name(name);
        if !name.to_ascii_lowercase().ends_with(".vmdk") {
            name.push_str(".vmdk");
        }
        self.line(&format!("{place}.present"), "TRUE");
        if place.starts_with("scsi") {
            self.line(&format!("{place}.deviceType"), "scsi-hardDisk");
        }
        self.line(&format!("{place}.fileName"), &name);
        if let Some(mode) = device.get("backing.diskMode") {
            self.line(&format!("{place}.mode"), &mode.replace('_', "-"));
        }
    }

    fn cdrom(&mut self, device: &Node, devices: &[&Node]) {
        let Some(place) = self.place(device, devices) else { return };
        self.line(&format!("{place}.present"), "TRUE");
        let image = device.get("backing.fileName").map(|name| self.file_name(name));
        match image.filter(|name| name.to_ascii_lowercase().ends_with(".iso")) {
            Some(name) => {
                self.line(&format!("{place}.deviceType"), "cdrom-image");
                self.line(&format!("{place}.fileName"), &name);
            }
            None => {
                self.line(&format!("{place}.deviceType"), "atapi-cdrom");
                self.line(&format!("{place}.fileName"), "auto detect");
                self.line(&format!("{place}.startConnected"), "FALSE");
            }
        }
    }

    fn adapter(&mut self, device: &Node, number: usize, model: &str) {
        let key = |field: &str| format!("ethernet{number}.{field}");
        self.line(&key("present"), "TRUE");
        self.line(&key("virtualDev"), model);
        self.line(&key("connectionType"), "bridged");
        let network =
            device.get("backing.deviceName").or(device.get("deviceInfo.summary")).unwrap_or_default();
        self.line(&key("networkName"), network);
        if let Some(mac) = device.get("macAddress") {
            self.line(&key("addressType"), "static");
            self.line(&key("address"), mac);
        }
        let connected = device.get("connectable.startConnected") != Some("false");
        self.line(&key("startConnected"), if connected { "TRUE" } else { "FALSE" });
    }

    /// `[pool] directory/file` as the file names it.
    fn file_name(&self, shown: &str) -> String {
        let Some((pool, path)) = split(shown) else { return shown.to_owned() };
        if pool.is_empty() {
            // A file outside every datastore goes by its path on the host.
            return path.to_owned();
        }
        let home = split(&self.home).map(|(pool, path)| (pool, directory(path)));
        if home == Some((pool, directory(path))) {
            return path.rsplit('/').next().unwrap_or(path).to_owned();
        }
        let mount = self.mount(pool).unwrap_or_else(|| format!("/vmfs/volumes/{pool}"));
        format!("{}/{path}", mount.trim_end_matches('/'))
    }

    fn mount(&self, pool: &str) -> Option<String> {
        let slot = self.catalog.schema().slot(Kind::StoragePool, "name")?;
        let id = self.catalog.inventory().find(Kind::StoragePool, slot, pool).into_iter().next()?;
        let mounts = property(self.catalog, id, "host")?;
        Some(mounts.children.first()?.get("mountInfo.path")?.to_owned())
    }
}

fn split(shown: &str) -> Option<(&str, &str)> {
    let (pool, path) = shown.strip_prefix('[')?.split_once(']')?;
    Some((pool, path.trim_start()))
}

fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// A uuid as the file has it: `56 4d 9b ef 55 b5 d3 c1-9e 9b 18 3f 0a 4d 7a 21`.
fn spaced(uuid: &str) -> Option<String> {
    let bytes = uuid::Uuid::try_parse(uuid).ok()?.into_bytes();
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let (low, high) = pairs.split_at_checked(8)?;
    Some(format!("{}-{}", low.join(" "), high.join(" ")))
}

/// `otherLinux64Guest` -> `otherlinux-64`
fn guest_os(id: &str) -> String {
    let lower = id.to_ascii_lowercase().replace("guest", "");
    match lower.strip_suffix("_64").or(lower.strip_suffix("64")) {
        Some(name) => format!("{name}-64"),
        None => lower,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(
            spaced("564d9bef-55b5-d3c1-9e9b-183f0a4d7a21").unwrap(),
            "56 4d 9b ef 55 b5 d3 c1-9e 9b 18 3f 0a 4d 7a 21"
        );
        assert_eq!(guest_os("otherLinux64Guest"), "otherlinux-64");
        assert_eq!(guest_os("otherGuest64"), "other-64");
        assert_eq!(guest_os("rhel8_64Guest"), "rhel8-64");
        assert_eq!(guest_os("otherGuest"), "other");
        assert_eq!(split("[default] web01/web01.vmx"), Some(("default", "web01/web01.vmx")));
    }
}
