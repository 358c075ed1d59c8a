//! Whether the file behind a VM's disk is anything else's too: such a file outlives the VM.
//!
//! ```text
//! a disk or drive of another VM, or a volume laid over this one ── the same volume │ the same file of the same storage ─▶ shown elsewhere
//! ```
//! Two hosts have the same storage when they have the same remote export, when their pools have the same uuid, or when nothing tells two
//! pools apart that hold the same path: neither their export nor their size. What is not known counts as shared; a file that stays can be
//! removed later, one that is gone cannot be brought back.

use crate::reader::Reader;
use std::sync::Arc;
use union::{Kind, ObjectId, Record, Schema, Slot, Value};

/// Where to look, in slots of one schema.
#[derive(Clone, Debug)]
pub struct Sharing {
    disks: Slot,
    drives: Slot,
    vm_host: Slot,
    disk: Media,
    drive: Media,
    volume: VolumeSlots,
    pool: PoolSlots,
}

/// A disk's or a drive's.
#[derive(Clone, Copy, Debug)]
struct Media {
    path: Slot,
    volume: Option<Slot>,
    pool: Slot,
}

#[derive(Clone, Copy, Debug)]
struct VolumeSlots {
    path: Slot,
    pool: Slot,
    backing: Slot,
}

#[derive(Clone, Copy, Debug)]
struct PoolSlots {
    uuid: Slot,
    path: Slot,
    capacity: Slot,
    remote_host: Slot,
    remote_path: Slot,
    hosts: Slot,
}

/// A file, as far as it is known where it is.
struct File {
    path: Option<Arc<str>>,
    volume: Option<ObjectId>,
    pool: Option<(ObjectId, Option<Arc<Record>>)>,
    host: Option<ObjectId>,
}

impl Sharing {
    /// The slots of a schema; none if it has no disks.
    pub fn new(schema: &Schema) -> Option<Sharing> {
        let of = |message: &str, field: &str| Some(schema.message(message)?.field(field)?.slot);
        let slot = |kind: Kind, field: &str| schema.slot(kind, field);
        Some(Sharing {
            disks: slot(Kind::Vm, "disks")?,
            drives: slot(Kind::Vm, "cdroms")?,
            vm_host: slot(Kind::Vm, "host_id")?,
            disk: Media {
                path: of("Disk", "path")?,
                volume: of("Disk", "volume_id"),
                pool: of("Disk", "storage_pool_id")?,
            },
            drive: Media { path: of("Cdrom", "path")?, volume: None, pool: of("Cdrom", "storage_pool_id")? },
            volume: VolumeSlots {
                path: slot(Kind::Volume, "path")?,
                pool: slot(Kind::Volume, "storage_pool_id")?,
                backing: slot(Kind::Volume, "backing_path")?,
            },
            pool: PoolSlots {
                uuid: slot(Kind::StoragePool, "uuid")?,
                path: slot(Kind::StoragePool, "path")?,
                capacity: slot(Kind::StoragePool, "capacity_bytes")?,
                remote_host: slot(Kind::StoragePool, "remote_host")?,
                remote_path: slot(Kind::StoragePool, "remote_path")?,
                hosts: slot(Kind::StoragePool, "host_ids")?,
            },
        })
    }

    /// Whether something besides `vm` shows the file behind `disk`, a record of `vm`'s disks.
    pub fn elsewhere(
        &self,
        reader: &dyn Reader,
        vm: ObjectId,
        host: Option<ObjectId>,
        disk: &Record,
    ) -> bool {
        self.shown(reader, vm, &self.file(reader, self.disk, disk, host))
    }

    /// Whether something besides `vm` shows the file of a volume.
    pub fn volume_elsewhere(&self, reader: &dyn Reader, vm: ObjectId, volume: ObjectId) -> bool {
        let record = reader.object(volume);
        let path = record.as_ref().and_then(|v| v.get(self.volume.path).as_str().map(Arc::from));
        let pool = record.as_ref().and_then(|v| v.get(self.volume.pool).as_ref_id());
        let pool = pool.map(|id| (id, reader.object(id)));
        self.shown(reader, vm, &File { path, volume: Some(volume), pool, host: None })
    }

    fn shown(&self, reader: &dyn Reader, vm: ObjectId, mine: &File) -> bool {
        let Some(vms) = reader.every(Kind::Vm) else { return true };
        for other in vms.into_iter().filter(|id| *id != vm) {
            let Some(record) = reader.object(other) else { continue };
            let host = record.get(self.vm_host).as_ref_id();
            for (slot, media) in [(self.disks, self.disk), (self.drives, self.drive)] {
                let mut items = record.get(slot).items().iter().filter_map(Value::as_record);
                if items.any(|item| self.same(mine, &self.file(reader, media, item, host))) {
                    return true;
                }
            }
        }
        self.is_laid_under(reader, mine)
    }

    /// Whether a volume is laid over this file.
    fn is_laid_under(&self, reader: &dyn Reader, mine: &File) -> bool {
        let Some(volumes) = reader.every(Kind::Volume) else { return true };
        volumes.into_iter().filter_map(|id| reader.object(id)).any(|volume| {
            let path = volume.get(self.volume.backing).as_str().map(Arc::from);
            let pool = volume.get(self.volume.pool).as_ref_id().map(|id| (id, reader.object(id)));
            path.is_some() && self.same(mine, &File { path, volume: None, pool, host: None })
        })
    }

    fn file(&self, reader: &dyn Reader, media: Media, item: &Record, host: Option<ObjectId>) -> File {
        let volume = media.volume.and_then(|slot| item.get(slot).as_ref_id());
        let of_volume = volume.and_then(|id| reader.object(id));
        let of_volume = of_volume.as_deref();
        let path = item.get(media.path).as_str().map(Arc::from);
        let path = path.or_else(|| of_volume.and_then(|v| v.get(self.volume.path).as_str().map(Arc::from)));
        let pool = item.get(media.pool).as_ref_id();
        let pool = pool.or_else(|| of_volume.and_then(|v| v.get(self.volume.pool).as_ref_id()));
        File { path, volume, pool: pool.map(|id| (id, reader.object(id))), host }
    }

    fn same(&self, a: &File, b: &File) -> bool {
        if a.volume.is_some() && a.volume == b.volume {
            return true;
        }
        let (Some(path), Some(other)) = (&a.path, &b.path) else { return false };
        if path == other && a.host.is_some() && a.host == b.host {
            return true;
        }
        let (Some((a_id, a_pool)), Some((b_id, b_pool))) = (&a.pool, &b.pool) else { return path == other };
        if a_id == b_id {
            return path == other;
        }
        let (Some(a_pool), Some(b_pool)) = (a_pool, b_pool) else { return path == other };
        let slots = &self.pool;
        let both = |slot: Slot| (a_pool.get(slot), b_pool.get(slot));
        let hosts = |pool: &Record| pool.get(slots.hosts).refs().collect::<Vec<_>>();
        if hosts(b_pool).iter().any(|host| hosts(a_pool).contains(host)) {
            return path == other;
        }
        let (export, theirs) = both(slots.remote_path);
        if !export.is_absent() || !theirs.is_absent() {
            let (server, other_server) = both(slots.remote_host);
            return export == theirs
                && server == other_server
                && below(path, a_pool.get(slots.path)) == below(other, b_pool.get(slots.path));
        }
        let (uuid, other_uuid) = both(slots.uuid);
        let (size, other_size) = both(slots.capacity);
        let told_apart =
            uuid != other_uuid && !size.is_absent() && !other_size.is_absent() && size != other_size;
        path == other && !told_apart
    }
}

/// A path as seen from its pool, else the whole of it.
fn below<'a>(path: &'a str, pool: &Value) -> &'a str {
    let base = pool.as_str().unwrap_or_default().trim_end_matches('/');
    path.strip_prefix(base).unwrap_or(path)
}
