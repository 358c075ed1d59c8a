#!/usr/bin/env python3
"""Inventory retrieval over raw HTTP: hyperglot's vSphere front over a simulated fleet, and vcsim beside it, in one run.

Both serve the same number of VMs without TLS on loopback; no client library takes part. Prints one row an operation with the
median of the runs, both figures and their ratio.

    benches/retrieve.py [--vms N] [--runs N] [--hyperglot PROGRAM] [--vcsim PROGRAM] [--json FILE]
"""
import argparse
import http.client
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
NAME, PASSWORD = "bench", "bench-password"
SEVEN = ["name", "runtime.powerState", "config.uuid", "config.hardware.memoryMB", "config.hardware.numCPU", "guest.ipAddress", "parent"]


class Vim:
    """One connection to a vSphere endpoint, speaking plain SOAP."""

    def __init__(self, port):
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        self.cookie = None

    def call(self, body):
        envelope = (
            '<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema">'
            f"<soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>"
        )
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": "urn:vim25/8.0.1.0"}
        if self.cookie:
            headers["Cookie"] = self.cookie
        self.http.request("POST", "/sdk", envelope.encode(), headers)
        answer = self.http.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {data[:600].decode(errors='replace')}")
        if answer.getheader("Set-Cookie"):
            self.cookie = answer.getheader("Set-Cookie").split(";")[0]
        return data

    def login(self):
        content = self.call('<RetrieveServiceContent xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this></RetrieveServiceContent>').decode()

        def ref(name):
            return re.search(rf'<{name} [^>]*>([^<]*)</{name}>', content).group(1)

        self.root, self.pc, self.views = ref("rootFolder"), ref("propertyCollector"), ref("viewManager")
        self.search = ref("searchIndex")
        self.call(f'<Login xmlns="urn:vim25"><_this type="SessionManager">{ref("sessionManager")}</_this><userName>{NAME}</userName><password>{PASSWORD}</password></Login>')

    def view(self):
        data = self.call(
            f'<CreateContainerView xmlns="urn:vim25"><_this type="ViewManager">{self.views}</_this><container type="Folder">{self.root}</container>'
            "<type>VirtualMachine</type><recursive>true</recursive></CreateContainerView>"
        ).decode()
        return re.search(r"<returnval[^>]*>([^<]*)</returnval>", data).group(1)

    def spec(self, view, paths):
        props = "<all>true</all>" if paths is None else "".join(f"<pathSet>{p}</pathSet>" for p in paths)
        return (
            f"<propSet><type>VirtualMachine</type>{props}</propSet><objectSet><obj type=\"ContainerView\">{view}</obj><skip>true</skip>"
            '<selectSet xsi:type="TraversalSpec"><type>ContainerView</type><path>view</path><skip>false</skip></selectSet></objectSet>'
        )

    def retrieve(self, view, paths):
        spec = self.spec(view, paths)
        this = f'<_this type="PropertyCollector">{self.pc}</_this>'
        data = self.call(f'<RetrievePropertiesEx xmlns="urn:vim25">{this}<specSet>{spec}</specSet><options></options></RetrievePropertiesEx>')
        parts = [data]
        # A large answer comes in parts; all of them are asked for.
        while token := re.search(rb"<token>([^<]*)</token>", data[:2000] + data[-2000:]):
            token = token.group(1).decode()
            data = self.call(f'<ContinueRetrievePropertiesEx xmlns="urn:vim25">{this}<token>{token}</token></ContinueRetrievePropertiesEx>')
            parts.append(data)
        return b"".join(parts)

    def fetch(self, vm, prop):
        return self.call(f'<Fetch xmlns="urn:vim25"><_this type="VirtualMachine">{vm}</_this><prop>{prop}</prop></Fetch>')

    def find(self, uuid):
        return self.call(f'<FindByUuid xmlns="urn:vim25"><_this type="SearchIndex">{self.search}</_this><uuid>{uuid}</uuid><vmSearch>true</vmSearch></FindByUuid>')


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port, process, within):
    end = time.monotonic() + within
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args[0]} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{process.args[0]} did not listen on {port} within {within} s")


def rss(process):
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) // 1024


def start_hyperglot(program, vms, place):
    port = free_port()
    config = place / "hyperglot.toml"
    config.write_text(
        f'data_dir = "{place}/data"\n[[target]]\nprotocol = "sim"\ngenerate = {{ vms = {vms}, hosts = 10 }}\n'
        f'[[front]]\nprotocol = "vsphere"\nview = "fleet"\nlisten = "127.0.0.1:{port}"\ntls = false\n'
    )
    env = dict(os.environ, HYPERGLOT_ADMIN_USER=NAME, HYPERGLOT_ADMIN_PASSWORD=PASSWORD, HYPERGLOT_LOG="warn")
    begin = time.monotonic()
    process = subprocess.Popen([program, "up", "--config", config], env=env, stdout=subprocess.DEVNULL)
    wait_for(port, process, 120)
    return process, port, time.monotonic() - begin


def start_vcsim(program, vms, place):
    port = free_port()
    begin = time.monotonic()
    args = [program, "-l", f"127.0.0.1:{port}", "-tls=false", "-dc", "1", "-cluster", "10", "-host", "1", "-standalone-host", "0",
            "-vm", str(vms // 10), "-autostart=false", "-username", NAME, "-password", PASSWORD]
    # What it leaves behind goes with the place.
    env = dict(os.environ, TMPDIR=str(place))
    process = subprocess.Popen(args, cwd=place, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(port, process, 1200)
    return process, port, time.monotonic() - begin


def timed(action):
    begin = time.perf_counter()
    data = action()
    return time.perf_counter() - begin, data


def measure(port, runs):
    """Rows of (operation, seconds, bytes or None)."""
    vim = Vim(port)
    vim.login()
    rows = []
    view = vim.view()
    seconds = [timed(vim.view)[0] for _ in range(runs)]
    rows.append(("CreateContainerView, all VMs", statistics.median(seconds), None))
    for label, paths, most in [("name", ["name"], runs), ("7 properties", SEVEN, runs), ("summary", ["summary"], min(runs, 3)),
                               ("config.hardware.device", ["config.hardware.device"], min(runs, 2)), ("all", None, min(runs, 2))]:
        samples = [timed(lambda: vim.retrieve(view, paths)) for _ in range(most)]
        rows.append((f"RetrievePropertiesEx {label}", statistics.median(s for s, _ in samples), len(samples[0][1])))
    text = vim.retrieve(view, ["config.uuid"]).decode()
    found = re.findall(r'<obj [^>]*>([^<]*)</obj>.*?<val[^>]*>([^<]*)</val>', text)
    step = max(1, len(found) // 500)
    some = found[::step]
    for label, prop in [("name", "name"), ("summary", "summary")]:
        seconds = sorted(timed(lambda: vim.fetch(vm, prop))[0] for vm, _ in some)
        rows.append((f"Fetch {label} p50", statistics.median(seconds), None))
    seconds = [timed(lambda: vim.find(uuid))[0] for _, uuid in some[:200]]
    rows.append(("FindByUuid p50", statistics.median(seconds), None))
    rows.append(("PowerOn -> update, filter on all VMs", update_latency(port, vim, [vm for vm, _ in found], min(runs, 5)), None))
    return rows


def update_latency(port, vim, vms, runs):
    """From sending PowerOn to the update in a waiting WaitForUpdatesEx over a filter on every VM's power state."""
    waiter = Vim(port)
    waiter.login()
    view = waiter.view()
    spec = waiter.spec(view, ["runtime.powerState"])
    waiter.call(f'<CreateFilter xmlns="urn:vim25"><_this type="PropertyCollector">{waiter.pc}</_this><spec>{spec}</spec><partialUpdates>true</partialUpdates></CreateFilter>')

    def wait(version):
        return waiter.call(
            f'<WaitForUpdatesEx xmlns="urn:vim25"><_this type="PropertyCollector">{waiter.pc}</_this><version>{version}</version>'
            "<options><maxWaitSeconds>120</maxWaitSeconds><maxObjectUpdates>100000</maxObjectUpdates></options></WaitForUpdatesEx>"
        ).decode()

    version = ""
    while True:
        answer = wait(version)
        version = re.search(r"<version>([^<]*)</version>", answer).group(1)
        if "<truncated>true</truncated>" not in answer:
            break
    samples = []
    for vm in off(vim, vms)[:runs]:
        seen = {}

        def watch(version=version, vm=vm):
            at = version
            while True:
                answer = wait(at)
                at = re.search(r"<version>([^<]*)</version>", answer).group(1)
                if f">{vm}<" in answer and "poweredOn" in answer:
                    seen["at"], seen["version"] = time.perf_counter(), at
                    return

        thread = threading.Thread(target=watch)
        thread.start()
        time.sleep(0.2)
        begin = time.perf_counter()
        vim.call(f'<PowerOnVM_Task xmlns="urn:vim25"><_this type="VirtualMachine">{vm}</_this></PowerOnVM_Task>')
        thread.join(120)
        if "at" not in seen:
            raise RuntimeError("no update within 120 s")
        samples.append(seen["at"] - begin)
        version = seen["version"]
    return statistics.median(samples)


def off(vim, vms):
    chosen = []
    for vm in vms:
        if b"poweredOff" in vim.fetch(vm, "runtime.powerState"):
            chosen.append(vm)
        if len(chosen) >= 5:
            break
    return chosen


def machine():
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text()).group(1)) // (1024 * 1024)
    return f"{os.cpu_count()} x {cpu.group(1) if cpu else 'unknown CPU'}, {memory} GiB"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vms", type=int, default=10000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--hyperglot", default=str(TOP / "target/release/hyperglot"))
    parser.add_argument("--vcsim", default=str(TOP / ".tools/bin/vcsim"))
    parser.add_argument("--json", help="keep the raw figures here")
    args = parser.parse_args()
    for program in (args.hyperglot, args.vcsim):
        if not shutil.which(program):
            sys.exit(f"{program} is missing: run `make setup` and `cargo build --release -p hyperglot`")
    results = {}
    print(f"{args.vms} VMs, median of up to {args.runs} runs, raw HTTP on loopback, no TLS; {machine()}")
    for name, start, program in (("hyperglot", start_hyperglot, args.hyperglot), ("vcsim", start_vcsim, args.vcsim)):
        with tempfile.TemporaryDirectory() as place:
            process, port, up = start(program, args.vms, Path(place))
            try:
                rows = [("start to listening", up, None)] + measure(port, args.runs)
                results[name] = {"rows": rows, "rss_mib": rss(process)}
            finally:
                process.terminate()
                process.wait(30)
    print(f"{'operation':42} {'hyperglot':>12} {'vcsim':>12} {'ratio':>8}")
    for (label, ours, size), (_, theirs, their_size) in zip(results["hyperglot"]["rows"], results["vcsim"]["rows"]):
        sizes = f"   {size / 1e6:.1f} MB / {their_size / 1e6:.1f} MB" if size else ""
        print(f"{label:42} {ours * 1000:9.2f} ms {theirs * 1000:9.2f} ms {theirs / ours:7.1f}x{sizes}")
    print(f"{'RSS after the run':42} {results['hyperglot']['rss_mib']:9} MiB {results['vcsim']['rss_mib']:8} MiB")
    if args.json:
        Path(args.json).write_text(json.dumps({"machine": machine(), "vms": args.vms, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
