#!/usr/bin/env python3
"""A private libvirt host: its own libvirtd, QEMU, network and storage, in its own namespaces.

    python3 tools/demo/lab.py DIR [--name HOSTNAME] [--tcp PORT]     runs until Ctrl-C

The machine's own libvirt, network and /dev are not touched; several hosts run side by
side, each in its own directory. Without root it is a session libvirtd with user-mode
networking. Everything ends with this process.

Shapes: `LibvirtHost(directory, name)`; `start()` waits until libvirtd answers and
raises `LabError` with what libvirtd said otherwise; `uri` is what a client on this
machine gives to libvirt; `stop()` ends libvirtd, dnsmasq and every guest.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parent.parent
GUEST = REPO / ".hyperglot" / "guest"
NAMESPACE = uuid.UUID("6f1d3c52-9a0e-4d0b-8a55-0f6f2b7b6a11")
# sockaddr_un holds 108 bytes with its NUL.
SOCKET_PATH_MAX = 107
NEEDED = {
    "/usr/sbin/libvirtd": "libvirt-daemon",
    "/usr/bin/virsh": "libvirt-clients",
    "/usr/bin/qemu-system-x86_64": "qemu-system-x86",
    "/usr/bin/qemu-img": "qemu-utils",
    "/usr/sbin/dnsmasq": "dnsmasq-base",
    "/usr/sbin/iptables": "iptables",
    "/usr/bin/ip": "iproute2",
}


class LabError(RuntimeError):
    """What was expected of the private host, and what happened."""


@dataclass(frozen=True)
class Guest:
    """A guest to define. Sizes in MiB."""

    name: str
    memory_mib: int
    vcpus: int
    disk_mib: int = 64
    description: str = ""
    boots: bool = True


def guest_uuid(host: str, name: str) -> str:
    """The same guest on the same host always has the same uuid."""
    return str(uuid.uuid5(NAMESPACE, f"{host}/{name}"))


def guest_mac(host: str, name: str) -> str:
    tail = uuid.uuid5(NAMESPACE, f"{host}/{name}/net0").bytes
    return "52:54:00:%02x:%02x:%02x" % (tail[0], tail[1], tail[2])


class LibvirtHost:
    """One private libvirt host in `directory`."""

    def __init__(self, directory: Path | str, name: str = "lab01"):
        self.directory = Path(directory).resolve()
        self.name = name
        self.privileged = os.geteuid() == 0
        if self.privileged:
            # What is inside the namespace under /var/…/libvirt.
            self.socket = self.directory / "run" / "libvirt-sock"
            self.lib, self.log = Path("/var/lib/libvirt"), Path("/var/log/libvirt")
        else:
            self.socket = self.directory / "session" / "libvirt" / "libvirt-sock"
            self.lib, self.log = self.directory / "lib", self.directory / "log"
        self.uri = f"qemu+unix:///{'system' if self.privileged else 'session'}?socket={self.socket}"
        self.process: subprocess.Popen | None = None
        self.relay: Relay | None = None

    # -- life ---------------------------------------------------------------

    def start(self, timeout: float = 60.0) -> "LibvirtHost":
        missing = [f"{path} (Debian package {package})" for path, package in NEEDED.items() if not Path(path).exists()]
        if missing:
            raise LabError("a private libvirt host needs " + ", ".join(missing) + ": run 'make setup'")
        if len(str(self.socket).encode()) > SOCKET_PATH_MAX:
            raise LabError(f"the socket path {self.socket} is longer than {SOCKET_PATH_MAX} bytes: use a shorter directory")
        self._lay_out()
        argv = ["setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL"]
        if self.privileged:
            argv += ["--mount", "--net", "--uts", "--ipc", str(HERE / "inside.sh"), str(self.directory), self.name]
        else:
            argv += ["--user", "--map-current-user", "--mount-proc", str(HERE / "unprivileged.sh"), str(self.directory)]
        log = open(self.directory / "log" / "inside.log", "ab")
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(self.directory)}
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True)
        log.close()
        self.wait_answering(timeout)
        return self

    def wait_answering(self, timeout: float = 60.0) -> None:
        """Returns when libvirtd answers on its socket."""
        deadline = time.monotonic() + timeout
        last = ""
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                raise LabError(f"the private host {self.name} ended at once:\n{self.logs()}")
            if self.socket.exists():
                try:
                    done = self._virsh(["version"], timeout=10)
                except subprocess.TimeoutExpired:
                    continue
                if done.returncode == 0:
                    return
                last = done.stderr
            time.sleep(0.1)
        raise LabError(f"libvirtd of {self.name} did not answer within {timeout:.0f} s: {last}\n{self.logs()}")

    def stop(self) -> None:
        if self.relay is not None:
            self.relay.close()
            self.relay = None
        if self.process is None:
            return
        # unshare's child is the namespace's first process; ending it ends all of them.
        first = self._first()
        if first is not None:
            _signal(first, signal.SIGKILL)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def logs(self) -> str:
        parts = []
        for name in ("inside.log", "libvirtd.out", "libvirtd.log"):
            path = self.directory / "log" / name
            if path.exists() and path.stat().st_size:
                parts.append(f"--- {path}\n{path.read_text(errors='replace')[-3000:]}")
        return "\n".join(parts)

    def __enter__(self) -> "LibvirtHost":
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    def _lay_out(self) -> None:
        if self.directory.exists():
            shutil.rmtree(self.directory)
        for sub in ("run", "etc/qemu/networks", "etc/storage", "lib/images", "lib/boot", "cache", "log", "dev", "empty", "session"):
            (self.directory / sub).mkdir(parents=True, exist_ok=True)
        (self.directory / "run").chmod(0o700)
        if self.privileged:
            for mountpoint in ("/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt"):
                Path(mountpoint).mkdir(parents=True, exist_ok=True)
        etc = self.directory / "etc"
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        # Only root: dnsmasq and QEMU stay root inside the namespaces, whatever users the machine has.
        users = {"root": 0, "libvirt-qemu": 0, "libvirt-dnsmasq": 0, "nobody": 65534}
        (etc / "passwd").write_text("".join(f"{user}:x:{uid}:{uid}::/:/bin/sh\n" for user, uid in users.items()))
        groups = {"root": 0, "libvirt": 0, "libvirt-qemu": 0, "libvirt-dnsmasq": 0, "kvm": 0, "nogroup": 65534}
        (etc / "group").write_text("".join(f"{group}:x:{gid}:\n" for group, gid in groups.items()))
        (etc / "libvirtd.conf").write_text(
            ('unix_sock_group = "root"\n' if self.privileged else "")
            + 'unix_sock_rw_perms = "0700"\nunix_sock_ro_perms = "0700"\n'
            + 'auth_unix_ro = "none"\nauth_unix_rw = "none"\nlisten_tls = 0\nlisten_tcp = 0\n'
            + f'host_uuid = "{uuid.uuid5(NAMESPACE, self.name)}"\n'
            + f'log_level = 3\nlog_outputs = "3:file:{self.log}/libvirtd.log"\n'
            + "max_clients = 500\nmax_client_requests = 50\nmax_workers = 20\n"
        )
        (etc / "qemu.conf").write_text(
            'user = "+0"\ngroup = "+0"\ndynamic_ownership = 0\nremember_owner = 0\nsecurity_driver = "none"\n'
            'namespaces = []\ncgroup_controllers = []\nstdio_handler = "file"\nvnc_listen = "127.0.0.1"\n'
        )
        (etc / "network.conf").write_text("")

    def _first(self) -> int | None:
        if self.process is None:
            return None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        try:
            return int(children.read_text().split()[0])
        except (OSError, IndexError, ValueError):
            return None

    # -- libvirtd as a thing that fails --------------------------------------

    def libvirtd_pid(self) -> int:
        """libvirtd's pid as seen from outside."""
        first = self._first()
        if first is not None:
            for child in Path(f"/proc/{first}/task/{first}/children").read_text().split():
                if Path(f"/proc/{child}/comm").read_text().strip() == "libvirtd":
                    return int(child)
        raise LabError(f"{self.name} runs no libvirtd just now")

    def pause(self) -> None:
        """libvirtd stops answering; connections stay open."""
        _signal(self.libvirtd_pid(), signal.SIGSTOP)

    def resume(self) -> None:
        _signal(self.libvirtd_pid(), signal.SIGCONT)

    def kill(self, hold: bool = False) -> None:
        """kill -9 libvirtd; its guests go on. With `hold` it stays away until `release`."""
        if hold:
            (self.directory / "hold").touch()
        _signal(self.libvirtd_pid(), signal.SIGKILL)

    def release(self) -> None:
        (self.directory / "hold").unlink(missing_ok=True)
        self.wait_answering()

    # -- virsh, directly on this libvirt --------------------------------------

    def _virsh(self, arguments: list[str], timeout: float = 60.0, stdin: str | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["virsh", "-q", "-c", self.uri, *arguments],
            capture_output=True, text=True, timeout=timeout, input=stdin,
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "HOME": str(self.directory)},
        )

    def virsh(self, *arguments: str, timeout: float = 60.0) -> str:
        done = self._virsh(list(arguments), timeout)
        if done.returncode != 0:
            raise LabError(f"virsh {' '.join(arguments)} on {self.name}: {done.stderr.strip()}")
        return done.stdout.strip()

    def state(self, guest: str) -> str:
        return self.virsh("domstate", guest)

    def wait_state(self, guest: str, wanted: str, timeout: float = 240.0) -> None:
        deadline = time.monotonic() + timeout
        while (now := self.state(guest)) != wanted:
            if time.monotonic() > deadline:
                raise LabError(f"{guest} on {self.name}: expected '{wanted}' within {timeout:.0f} s, it is '{now}'")
            time.sleep(0.1)

    def crashes(self, guest: str) -> list[float]:
        """When libvirt took the guest's process to have ended by itself, in seconds as `time.time()` has them: from the guest's own log.

        libvirt 9 does so, too, when a guest is started right after it was destroyed and libvirt is late with the end of the old process:
        it then ends the new one (mended by libvirt's commit dd2f36d66ec, "Don't handle the EOF event if vm get restarted")."""
        lines = [line for log in self.directory.rglob(f"{guest}.log") for line in log.read_text(errors="replace").splitlines()]
        times = [line.partition(": shutting down, reason=crashed")[0] for line in lines if line.endswith("reason=crashed")]
        return [datetime.strptime(at, "%Y-%m-%d %H:%M:%S.%f%z").timestamp() for at in times]

    def _define(self, kind: str, xml: str) -> None:
        file = self.directory / f"{kind}.xml"
        file.write_text(xml)
        self.virsh(kind, str(file))

    # -- what is on it ---------------------------------------------------------

    def provision(self, guests: list[Guest], network: str = "default") -> None:
        """A pool, a network and the guests, all defined, pool and network running."""
        for part in ("vmlinuz", "initrd.gz"):
            if not (GUEST / part).exists():
                raise LabError(f"{GUEST / part} is missing: run 'make guest'")
            shutil.copy(GUEST / part, self.directory / "lib" / "boot" / part)
        self._define("pool-define", f"<pool type='dir'><name>default</name><target><path>{self.lib}/images</path></target></pool>")
        self.virsh("pool-start", "default")
        self.virsh("pool-autostart", "default")
        if self.privileged:
            self._define("net-define", (
                f"<network><name>{network}</name><bridge name='virbr0' stp='off' delay='0'/>"
                "<ip address='192.168.122.1' netmask='255.255.255.0'><dhcp>"
                "<range start='192.168.122.100' end='192.168.122.200'/></dhcp></ip></network>"
            ))
            self.virsh("net-start", network)
            self.virsh("net-autostart", network)
        for guest in guests:
            self.virsh("vol-create-as", "default", f"{guest.name}.qcow2", f"{guest.disk_mib}M", "--format", "qcow2")
            self._define("define", self.domain_xml(guest, network))

    def domain_xml(self, guest: Guest, network: str = "default") -> str:
        boot = (
            f"<kernel>{self.lib}/boot/vmlinuz</kernel><initrd>{self.lib}/boot/initrd.gz</initrd>"
            "<cmdline>console=tty1 console=ttyS0,115200 quiet mitigations=off nokaslr</cmdline>"
        ) if guest.boots else ""
        nic = f"<interface type='network'><source network='{network}'/>" if self.privileged else "<interface type='user'>"
        description = f"<description>{guest.description}</description>" if guest.description else ""
        return f"""<domain type='qemu'>
  <name>{guest.name}</name>
  <uuid>{guest_uuid(self.name, guest.name)}</uuid>
  {description}
  <memory unit='MiB'>{guest.memory_mib}</memory>
  <vcpu>{guest.vcpus}</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type>{boot}</os>
  <features><acpi/><apic/></features>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
      <source file='{self.lib}/images/{guest.name}.qcow2'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><target dev='hda' bus='ide'/><readonly/></disk>
    {nic}<mac address='{guest_mac(self.name, guest.name)}'/><model type='virtio'/></interface>
    <serial type='pty'><log file='{self.log}/{guest.name}.serial' append='on'/></serial><console type='pty'/>
    <input type='keyboard' bus='ps2'/>
    <graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/>
    <video><model type='vga'/></video>
    <memballoon model='virtio'/>
  </devices>
</domain>"""

    def boots_seen(self, guest: str) -> int:
        """How often the guest's Linux has come up."""
        log = self.directory / "log" / f"{guest}.serial"
        return log.read_bytes().count(b"GUEST-READY") if log.exists() else 0

    def wait_booted(self, guest: str, more_than: int = 0, timeout: float = 240.0) -> None:
        deadline = time.monotonic() + timeout
        while self.boots_seen(guest) <= more_than:
            if time.monotonic() > deadline:
                raise LabError(f"{guest} on {self.name} did not reach its shell within {timeout:.0f} s (virsh says '{self.state(guest)}')")
            time.sleep(0.1)

    def serve_tcp(self, port: int) -> str:
        """libvirt's TCP transport on 127.0.0.1:port, for clients outside the network namespace."""
        self.relay = Relay(port, self.socket)
        return f"qemu+tcp://127.0.0.1:{self.relay.port}/system"


class Relay:
    """127.0.0.1:port to a unix socket, both ways. A network namespace hides TCP, not unix sockets."""

    def __init__(self, port: int, target: Path):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self.target))
            except OSError:
                client.close()
                server.close()
                continue
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()

    def close(self) -> None:
        self.listener.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


DEMO_GUESTS = [
    Guest("web01", memory_mib=128, vcpus=1, description="The web server"),
    Guest("db01", memory_mib=256, vcpus=2, description="The database"),
]


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a private libvirt host with two guests until Ctrl-C.")
    parser.add_argument("directory")
    parser.add_argument("--name", default="lab01")
    parser.add_argument("--tcp", type=int, default=None, help="also serve libvirt's TCP transport on this loopback port")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with LibvirtHost(options.directory, options.name) as host:
            host.provision(DEMO_GUESTS)
            host.virsh("start", "web01")
            host.wait_booted("web01")
            print(host.uri, flush=True)
            if options.tcp is not None:
                print(host.serve_tcp(options.tcp), flush=True)
            signal.pause()
    except KeyboardInterrupt:
        return 0
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
