//! Devices: the names that libvirt has for what they refer to, and free names for new ones.

use super::{BadScript, REFERENCES, Scripting};
use crate::inventory::{get, set};
use std::sync::Arc;
use union::{Kind, ObjectId, Record, Value, pb::Bus};

impl Scripting<'_> {
    /// References as libvirt's names.
    pub(super) fn resolve(
        &self,
        list: &str,
        given: &Record,
        clear: &[Arc<str>],
        old: Option<&Arc<Record>>,
        new: &mut Record,
    ) -> Result<(), BadScript> {
        match list {
            "nics" => self.resolve_nic(given, old, new),
            "disks" | "cdroms" => self.resolve_drive(list, given, clear, old, new),
            _ => Ok(()),
        }
    }

    fn resolve_nic(
        &self,
        given: &Record,
        old: Option<&Arc<Record>>,
        new: &mut Record,
    ) -> Result<(), BadScript> {
        let says = |field: &str| !get(self.schema, given, field).is_absent();
        if let Some(id) = get(self.schema, given, "network_id").as_ref_id() {
            let none = || BadScript::NoObject { field: "network_id", object: id };
            let network = self.inventory.record(id).ok_or_else(none)?;
            let name = self.text(&network, "name").ok_or_else(none)?;
            let bridge = self.text(&network, "bridge").filter(|b| self.names.bridge(b) == id);
            let (kind, field, name) = match bridge {
                Some(bridge) => ("bridge", "bridge", bridge),
                None => ("network", "network", name),
            };
            set(self.schema, new, "backing", kind);
            set(self.schema, new, field, &*name);
        } else if says("network") && !says("backing") {
            set(self.schema, new, "backing", "network");
        } else if says("bridge") && !says("backing") {
            set(self.schema, new, "backing", "bridge");
        }
        set(self.schema, new, "network_id", Value::Absent);
        let kind = get(self.schema, new, "backing").clone();
        let was = old.map(|old| get(self.schema, old, "backing").clone());
        if was != Some(kind.clone()) {
            let other = if kind.as_str() == Some("network") { "bridge" } else { "network" };
            set(self.schema, new, other, Value::Absent);
        }
        Ok(())
    }

    fn resolve_drive(
        &self,
        list: &str,
        given: &Record,
        clear: &[Arc<str>],
        old: Option<&Arc<Record>>,
        new: &mut Record,
    ) -> Result<(), BadScript> {
        let s = self.schema;
        let says = |field: &str| !get(s, given, field).is_absent();
        let field = |name: &str| s.get(given.message()).is_some_and(|m| m.field(name).is_some());
        let mut path = self.text(given, "path");
        if field("volume_id")
            && let Some(id) = get(s, given, "volume_id").as_ref_id()
        {
            let none = || BadScript::NoObject { field: "volume_id", object: id };
            let volume = self.inventory.record(id).ok_or_else(none)?;
            path = Some(self.text(&volume, "path").ok_or_else(none)?);
        } else if let (Some(id), Some(relative)) =
            (get(s, given, "storage_pool_id").as_ref_id(), path.clone().filter(|path| !path.starts_with('/')))
        {
            let none = || BadScript::NoObject { field: "storage_pool_id", object: id };
            let pool = self.inventory.record(id).ok_or_else(none)?;
            let home = self.text(&pool, "path").ok_or_else(none)?;
            path = Some(Arc::from(format!("{}/{relative}", home.trim_end_matches('/'))));
        }
        for name in REFERENCES.iter().filter(|name| field(name)) {
            set(s, new, name, Value::Absent);
        }
        let cleared = |name: &str| clear.iter().any(|c| **c == *name);
        if let Some(path) = path {
            let device = path.starts_with("/dev/");
            set(s, new, "path", &*path);
            if !says("backing") {
                set(s, new, "backing", if device { "block" } else { "file" });
            }
            for name in ["pool", "volume"] {
                set(s, new, name, Value::Absent);
            }
        } else if cleared("path") || cleared("volume_id") {
            // What names a volume cannot be without one: an empty drive is one that a file goes into.
            for name in ["path", "pool", "volume"] {
                set(s, new, name, Value::Absent);
            }
            let was = old.and_then(|old| self.text(old, "backing"));
            if was.as_deref() != Some("block") && !says("backing") {
                set(s, new, "backing", "file");
            }
        }
        if old.is_none() && list == "disks" && field("size_bytes") {
            set(s, new, "size_bytes", Value::Absent);
        }
        Ok(())
    }

    /// The bus of a new drive: as said, as its controller's, or the usual one.
    pub(super) fn bus(&self, list: &str, given: &Record, so_far: &Record) -> Bus {
        let said = |record: &Record| {
            let number = get(self.schema, record, "bus").as_int()?;
            Bus::try_from(i32::try_from(number).ok()?).ok()
        };
        let controller = self.text(given, "controller").and_then(|key| {
            let field = self.schema.slot(Kind::Vm, "controllers")?;
            said(self.find(so_far, field, &key)?)
        });
        let usual = if list == "cdroms" { Bus::Sata } else { Bus::Virtio };
        said(given).or(controller).unwrap_or(usual)
    }

    /// The first free name on a bus; where the letter is the place and that is free, that of the place.
    pub(super) fn free_target(&self, bus: Bus, unit: Option<i64>, so_far: &Record) -> Option<String> {
        const MOST: i64 = 26 * 27;
        let prefix = match bus {
            Bus::Ide => "hd",
            Bus::Virtio => "vd",
            Bus::Floppy => "fd",
            _ => "sd",
        };
        let mut taken = Vec::new();
        for list in ["disks", "cdroms"] {
            let items = get(self.schema, so_far, list).items().iter().filter_map(Value::as_record);
            taken.extend(items.filter_map(|item| self.text(item, "id")));
        }
        let placed = unit.filter(|unit| (0..26).contains(unit) && bus != Bus::Virtio);
        let names = placed.into_iter().chain(0..MOST).map(|n| format!("{prefix}{}", letters(n)));
        let mut free = names.filter(|name| !taken.iter().any(|t| **t == **name));
        free.next()
    }

    /// A MAC address made from the VM's uuid, so that whoever asks twice gets the same.
    pub(super) fn free_mac(&self, vm: ObjectId, so_far: &Record) -> Option<String> {
        const MOST: u8 = 64;
        let items = get(self.schema, so_far, "nics").items().iter().filter_map(Value::as_record);
        let taken: Vec<Arc<str>> = items.filter_map(|nic| self.text(nic, "id")).collect();
        let made = |n: u8| {
            let uuid = ObjectId::derived(Kind::Vm, &["mac", &vm.uuid.to_string(), &n.to_string()]).uuid;
            let [a, b, c, ..] = *uuid.as_bytes();
            // QEMU's own prefix, as libvirt gives it.
            format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
        };
        (0..MOST).map(made).find(|mac| !taken.iter().any(|t| t.eq_ignore_ascii_case(mac)))
    }
}

/// 0 is `a`, 26 is `aa`.
pub(super) fn letters(mut number: i64) -> String {
    let mut text = Vec::new();
    loop {
        let letter = u8::try_from(number.rem_euclid(26)).unwrap_or(0);
        text.push(char::from(b'a' + letter));
        number = number / 26 - 1;
        if number < 0 {
            break;
        }
    }
    text.iter().rev().collect()
}
