#!/usr/bin/env python3
"""Inventory reads over many generated machines: hyperglot, and vcsim beside it. Raw HTTP, no client SDK.

    python3 tools/bench/retrieve.py [--vms 10000] [--no-vcsim]

The same requests go to both; what is printed is wall time on this machine, the size of the
answers and the server's memory. vcsim takes minutes to make its machines.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "tools" / "demo"), str(REPO / "tests" / "clients")]

import runner  # noqa: E402
import soap  # noqa: E402

SEVEN = ("name", "runtime.powerState", "config.uuid", "config.hardware.memoryMB", "config.hardware.numCPU", "guest.ipAddress", "parent")
VCSIM = REPO / ".tools" / "bin" / "vcsim"
FETCHES = 2_000


def rss_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) / 1024


def timed(what) -> tuple[float, soap.Reply]:
    began = time.perf_counter()
    reply = what()
    took = time.perf_counter() - began
    if reply.status != 200:
        raise SystemExit(f"bench: {reply.fault}: {reply.fault_string}")
    return took, reply


def view_spec(view: str, paths: tuple[str, ...], options: str = "") -> str:
    sets = "".join(f"<pathSet>{path}</pathSet>" for path in paths)
    return (
        f'<specSet><propSet><type>VirtualMachine</type>{sets}</propSet><objectSet><obj type="ContainerView">{view}</obj><skip>true</skip>'
        '<selectSet xsi:type="TraversalSpec"><name>view</name><type>ContainerView</type><path>view</path><skip>false</skip></selectSet>'
        f"</objectSet></specSet><options>{options}</options>"
    )


def measure(front: runner.Front, user: str, password: str, pid: int, expected: int) -> dict[str, str]:
    figures = {}
    with soap.Client(front, timeout=600) as client:
        timed(lambda: client.login(user, password))
        root = client.call("RetrieveServiceContent", ("ServiceInstance", "ServiceInstance")).value("rootFolder")
        took, reply = timed(lambda: client.call(
            "CreateContainerView", ("ViewManager", "ViewManager"),
            f'<container type="Folder">{root}</container><type>VirtualMachine</type><recursive>true</recursive>'))
        figures["CreateContainerView"] = f"{took * 1000:.0f} ms"
        view = reply.value()
        for label, paths in (("name", ("name",)), ("7 properties", SEVEN), ("summary", ("summary",)), ("config.hardware.device", ("config.hardware.device",))):
            took, reply = timed(lambda: client.call("RetrievePropertiesEx", client.collector, view_spec(view, paths)))
            machines = re.findall(r'<obj type="VirtualMachine"[^>]*>([^<]+)<', reply.text)
            if len(machines) != expected:
                raise SystemExit(f"bench: expected {expected} machines in one answer, got {len(machines)}")
            figures[f"RetrievePropertiesEx {label}"] = f"{took * 1000:.0f} ms, {len(reply.text) / 1e6:.1f} MB"
        machine = machines[0]
        uuid = client.call("Fetch", ("VirtualMachine", machine), "<prop>config.uuid</prop>").value()
        for label, request in (
            ("Fetch name", lambda: client.call("Fetch", ("VirtualMachine", machine), "<prop>name</prop>")),
            ("FindByUuid", lambda: client.call("FindByUuid", ("SearchIndex", "SearchIndex"), f"<uuid>{uuid}</uuid><vmSearch>true</vmSearch>")),
        ):
            times = sorted(timed(request)[0] for _ in range(FETCHES))
            p50, p99 = statistics.median(times), times[int(len(times) * 0.99)]
            figures[f"{label}, one client"] = f"p50 {p50 * 1000:.2f} ms, p99 {p99 * 1000:.2f} ms"
        figures["power-on to update"] = update_latency(client, front, machine, view)
    figures["RSS at the end"] = f"{rss_mib(pid):.0f} MiB"
    return figures


def update_latency(client: soap.Client, front: runner.Front, machine: str, view: str) -> str:
    """From sending a power change to the delta in a filter over every machine."""
    spec = view_spec(view, ("runtime.powerState",)).removesuffix("<options></options>").replace("specSet>", "spec>")
    timed(lambda: client.call("CreateFilter", client.collector, spec + "<partialUpdates>true</partialUpdates>"))
    version, truncated = "", "true"
    while truncated == "true":
        _, reply = timed(lambda: client.call("WaitForUpdatesEx", client.collector, f"<version>{version}</version>"))
        version, truncated = reply.value("version"), reply.value("truncated")
    times = []
    with soap.Client(front, timeout=600) as other:
        other.cookie = client.cookie
        for _ in range(6):
            state = other.call("Fetch", ("VirtualMachine", machine), "<prop>runtime</prop>").value("powerState")
            method = "PowerOffVM_Task" if state == "poweredOn" else "PowerOnVM_Task"
            began = time.perf_counter()
            timed(lambda: other.call(method, ("VirtualMachine", machine)))
            while True:
                reply = client.call("WaitForUpdatesEx", client.collector, f"<version>{version}</version><options><maxWaitSeconds>60</maxWaitSeconds></options>")
                version = reply.value("version") or version
                if f">{machine}<" in reply.text:
                    break
            times.append(time.perf_counter() - began)
    return f"median {statistics.median(times) * 1000:.0f} ms of {len(times)}"


def hyperglot(vms: int) -> dict[str, str]:
    with tempfile.TemporaryDirectory(prefix="hyperglot-bench-") as directory:
        front = runner.Front("fleet", runner.free_port())
        began = time.perf_counter()
        with runner.Hyperglot(directory, [runner.sim_target(vms, max(1, vms // 100))], [front]) as instance:
            started = time.perf_counter() - began
            return {"start": f"{started:.1f} s"} | measure(front, runner.USER, runner.PASSWORD, instance.process.pid, vms)


def vcsim(vms: int) -> dict[str, str]:
    port = runner.free_port()
    clusters = 10
    began = time.perf_counter()
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", str(VCSIM), "-l", f"127.0.0.1:{port}", "-cluster", str(clusters), "-host", "10",
         "-standalone-host", "0", "-vm", str(vms // clusters), "-autostart=false"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    try:
        if not process.stdout.readline():
            raise SystemExit("bench: vcsim ended at once")
        started = time.perf_counter() - began
        return {"start": f"{started:.1f} s"} | measure(runner.Front("fleet", port), "user", "pass", process.pid, vms // clusters * clusters)
    finally:
        process.kill()
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vms", type=int, default=10_000)
    parser.add_argument("--no-vcsim", action="store_true")
    options = parser.parse_args()
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    print(f"python3 tools/bench/retrieve.py --vms {options.vms}")
    print(f"{os.cpu_count()} x {model.group(1) if model else platform.machine()}, {platform.system()} {platform.release()}, {runner.BINARY.parent.name} build")
    columns = {"hyperglot": hyperglot(options.vms)}
    if not options.no_vcsim:
        columns["vcsim"] = vcsim(options.vms)
    names = list(columns["hyperglot"])
    width = max(map(len, names))
    print(f"{'':{width}}  " + "  ".join(f"{column:28}" for column in columns))
    for name in names:
        print(f"{name:{width}}  " + "  ".join(f"{figures[name]:28}" for figures in columns.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
