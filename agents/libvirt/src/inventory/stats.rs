//! Usage from counters: each figure needs two samples.

use super::slot;
use std::{sync::Arc, time::Duration};
use union::{Kind, Schema, Slot, Value};
use wire::xdr::XdrValue;

const KIB: i64 = 1024;

/// CPU time spent up to a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Nanoseconds of CPU time.
    pub spent_ns: i64,
    /// When, on the injected clock.
    pub at: Duration,
}

/// MHz used between two samples on CPUs of `mhz`; `None` without a time between them, or after a restart.
pub fn mhz_between(before: Sample, after: Sample, mhz: i64) -> Option<i64> {
    let spent = i128::from(after.spent_ns.checked_sub(before.spent_ns).filter(|ns| *ns >= 0)?);
    let passed = i128::try_from(after.at.checked_sub(before.at)?.as_nanos()).ok().filter(|ns| *ns > 0)?;
    i64::try_from(spent * i128::from(mhz) / passed).ok()
}

/// The counters of one domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// CPU time, ns.
    pub cpu_ns: Option<i64>,
    /// Memory the guest has in use, bytes.
    pub used: Option<i64>,
    /// Memory the host spends, bytes.
    pub resident: Option<i64>,
}

impl Counters {
    /// From the typed parameters of `CONNECT_GET_ALL_DOMAIN_STATS`.
    pub fn read(params: &[(Arc<str>, XdrValue)]) -> Counters {
        let find = |name: &str| params.iter().find(|(n, _)| &**n == name).and_then(|(_, v)| v.as_int());
        let kib = |name: &str| find(name).map(|n| n.saturating_mul(KIB));
        // The balloon tells what the guest has in use once its driver answers; before that the host's own figure is the nearest.
        let told =
            kib("balloon.available").zip(kib("balloon.unused")).map(|(all, free)| all.saturating_sub(free));
        Counters { cpu_ns: find("cpu.time"), used: told.or(kib("balloon.rss")), resident: kib("balloon.rss") }
    }
}

/// The fields of a VM that its counters give.
pub fn vm(
    schema: &Schema,
    counters: Counters,
    usage_mhz: Option<i64>,
    uptime_s: Option<i64>,
) -> Vec<(Slot, Value)> {
    let values = [
        ("cpu_usage_mhz", usage_mhz),
        ("memory_usage_bytes", counters.used),
        ("memory_host_bytes", counters.resident),
        ("uptime_s", uptime_s),
    ];
    values
        .into_iter()
        .filter_map(|(field, value)| Some((slot(schema, Kind::Vm, field)?, Value::Int(value?))))
        .collect()
}

/// CPU time that the host's CPUs spent on work, ns, from `NODE_GET_CPU_STATS` over all of them.
pub fn host_busy_ns(counters: &[(Arc<str>, i64)]) -> Option<i64> {
    let busy = counters.iter().filter(|(name, _)| matches!(&**name, "kernel" | "user"));
    busy.map(|(_, ns)| *ns).reduce(i64::saturating_add)
}

/// Seconds since the host's boot: what its CPUs spent, idle or not, since then. Less what a hypervisor below stole, so it falls behind
/// a little on a virtual host.
pub fn host_uptime_s(counters: &[(Arc<str>, i64)], cpus: i64) -> Option<i64> {
    let kinds = counters.iter().filter(|(name, _)| matches!(&**name, "kernel" | "user" | "idle" | "iowait"));
    let spent = kinds.map(|(_, ns)| *ns).reduce(i64::saturating_add)?;
    spent.checked_div(cpus).map(|ns| ns / 1_000_000_000).filter(|s| *s > 0)
}

/// When the host booted, Unix milliseconds: as known, unless the new figure is so much later that it booted again.
pub fn host_boot_ms(known: Option<i64>, now_ms: i64, uptime_s: i64) -> i64 {
    /// More than the figure falls behind between two looks, less than anybody's time between two boots.
    const SLACK_MS: i64 = 600_000;
    let figured = now_ms.saturating_sub(uptime_s.saturating_mul(1000));
    known.filter(|known| figured.saturating_sub(*known) < SLACK_MS).unwrap_or(figured)
}

/// Memory in use on the host, bytes, from `NODE_GET_MEMORY_STATS` over all cells.
pub fn host_used_bytes(counters: &[(Arc<str>, i64)]) -> Option<i64> {
    let find = |name: &str| counters.iter().find(|(n, _)| &**n == name).map(|(_, kib)| *kib);
    let free = ["free", "buffers", "cached"].into_iter().filter_map(find).fold(0, i64::saturating_add);
    Some(find("total")?.saturating_sub(free).max(0).saturating_mul(KIB))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(spent_ns: i64, at_ms: u64) -> Sample {
        Sample { spent_ns, at: Duration::from_millis(at_ms) }
    }

    #[test]
    fn usage_is_time_spent_over_time_passed() {
        assert_eq!(mhz_between(sample(0, 0), sample(500_000_000, 1000), 2000), Some(1000));
        assert_eq!(mhz_between(sample(0, 5), sample(1, 5), 2000), None);
        assert_eq!(mhz_between(sample(9, 0), sample(1, 5), 2000), None);
        assert_eq!(mhz_between(sample(i64::MIN, 0), sample(i64::MAX, 5), i64::MAX), None);
    }

    #[test]
    fn counters_are_found_by_name() {
        let param = |name: &str, n| (Arc::from(name), XdrValue::Union(4, Box::new(XdrValue::Uhyper(n))));
        let early = [param("cpu.time", 7), param("balloon.rss", 3)];
        let read = Counters::read(&early);
        assert_eq!(read, Counters { cpu_ns: Some(7), used: Some(3072), resident: Some(3072) });
        let told = [param("balloon.available", 10), param("balloon.unused", 4)];
        assert_eq!(Counters::read(&told).used, Some(6144));
        assert_eq!(vm(&Schema::base(), read, Some(5), None).len(), 3);
    }

    #[test]
    fn host_counters() {
        let memory =
            [("total", 100), ("free", 10), ("buffers", 5), ("cached", 15)].map(|(n, v)| (Arc::from(n), v));
        assert_eq!(host_used_bytes(&memory), Some(70 * 1024));
        let cpu = [("kernel", 3), ("user", 4), ("idle", 90)].map(|(n, v)| (Arc::from(n), v));
        assert_eq!(host_busy_ns(&cpu), Some(7));
        assert_eq!((host_busy_ns(&[]), host_used_bytes(&[])), (None, None));
        let spent =
            [("kernel", 3), ("user", 4), ("idle", 13)].map(|(n, s)| (Arc::from(n), s * 1_000_000_000));
        assert_eq!((host_uptime_s(&spent, 2), host_uptime_s(&spent, 0)), (Some(10), None));
        assert_eq!(host_boot_ms(None, 20_000, 10), 10_000);
        assert_eq!(host_boot_ms(Some(9_000), 20_000, 10), 9_000);
        assert_eq!(host_boot_ms(Some(9_000), 10_000_000, 10), 9_990_000);
    }
}
