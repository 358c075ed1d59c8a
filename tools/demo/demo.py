#!/usr/bin/env python3
"""Real QEMU guests behind a vSphere front, and three sessions to copy.

    python3 tools/demo/demo.py [--check]

Starts a private libvirt with two guests, starts `hyperglot up`, runs a govc, a pyVmomi
and a `virsh -c esx://` session and prints each with its output. Without --check it then
stays up until Ctrl-C. With --check every output is checked, virsh asks libvirt directly
whether it agrees, and the exit status says whether all was well.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import lab  # noqa: E402
import runner  # noqa: E402

DIRECTORY = lab.REPO / ".hyperglot" / "demo"
FLEET_PORT, HOST_PORT = 18443, 18444
HOST = "lab01"
FOLDER = "databases"
PYVMOMI = Path(__file__).resolve().parent / "session.py"


class Sessions:
    """Runs commands, prints them as a user would type them, and keeps what did not match."""

    def __init__(self, host: lab.LibvirtHost, environment: dict[str, str]):
        self.host = host
        self.environment = environment
        self.wrong: list[str] = []

    def say(self, text: str) -> None:
        print(text, flush=True)

    def run(self, *command: str, expect: tuple[str, ...] = (), status: int = 0) -> str:
        """One command; each of `expect` must be in what it prints."""
        shown = shlex.join([Path(command[0]).name if "/" in command[0] and command[0].endswith("govc") else command[0], *command[1:]])
        self.say(f"$ {shown}")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=self.environment, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            self.wrong.append(f"{shown}: no answer within 120 s")
            self.say("(no answer within 120 s)\n")
            return ""
        output = done.stdout + done.stderr
        self.say(output.rstrip() + "\n")
        if done.returncode != status:
            self.wrong.append(f"{shown}: expected status {status}, got {done.returncode}: {done.stderr.strip()}")
        if command[0] == "virsh" and done.stderr.strip():
            self.wrong.append(f"{shown}: warned: {done.stderr.strip()}")
        for text in expect:
            if text not in output:
                self.wrong.append(f"{shown}: expected '{text}' in its output")
        return output

    def described(self, guest: str, text: str) -> None:
        """libvirt itself, asked directly, has this description of the guest."""
        said = self.host.virsh("desc", guest).strip()
        self.say(f"# virsh desc, directly on libvirt: {said}\n")
        if said != text:
            self.wrong.append(f"virsh desc {guest}: expected '{text}', found '{said}'")

    def agree(self, guest: str, state: str, timeout: float = 60.0) -> None:
        """libvirt itself, asked directly, says the guest is in `state`."""
        try:
            self.host.wait_state(guest, state, timeout)
            self.say(f"# virsh, directly on libvirt: {guest} is {state}\n")
        except lab.LabError as error:
            self.wrong.append(str(error))
            self.say(f"# {error}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="check every output and end")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        return demo(options.check)
    except KeyboardInterrupt:
        return 0
    except lab.LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


def demo(check: bool) -> int:
    started = time.monotonic()
    print("Starting a private libvirt with two guests ...", flush=True)
    with lab.LibvirtHost(DIRECTORY / HOST, HOST) as host:
        host.provision(lab.DEMO_GUESTS)
        host.virsh("start", "web01")
        host.wait_booted("web01")
        # Without root libvirt shows the machine's own host name.
        name = host.virsh("hostname")
        fronts = [runner.Front("fleet", FLEET_PORT), runner.Front("host", HOST_PORT, host=name)]
        print("Starting hyperglot ...", flush=True)
        with runner.Hyperglot(DIRECTORY, [runner.libvirt_target(host.uri, HOST)], fronts) as hyperglot:
            wrong = sessions(host, hyperglot, name)
            for line in wrong:
                print(f"WRONG: {line}", file=sys.stderr)
            if check:
                code = hyperglot.stop()
                if code != 0:
                    wrong.append("drain")
                    print(f"WRONG: hyperglot ended with status {code} on SIGTERM:\n{hyperglot.tail()}", file=sys.stderr)
                print(f"demo: {'all sessions as expected' if not wrong else f'{len(wrong)} mismatches'}, {time.monotonic() - started:.0f} s")
                return 1 if wrong else 0
            print(f"# Everything stays up until Ctrl-C. Logs: {hyperglot.log}")
            print(f"# libvirt itself: virsh -c '{host.uri}' list --all", flush=True)
            while hyperglot.alive():
                time.sleep(0.5)
            print(f"demo: hyperglot ended by itself:\n{hyperglot.tail()}", file=sys.stderr)
            return 1


def sessions(host: lab.LibvirtHost, hyperglot: runner.Hyperglot, name: str) -> list[str]:
    govc = str(lab.REPO / ".tools" / "bin" / "govc")
    python = str(lab.REPO / ".venv" / "bin" / "python")
    auth = DIRECTORY / "auth.conf"
    auth.write_text(f"[credentials-demo]\nusername={runner.USER}\npassword={runner.PASSWORD}\n[auth-esx-127.0.0.1]\ncredentials=demo\n")
    auth.chmod(0o600)
    variables = {
        "GOVC_URL": f"https://{runner.USER}:{runner.PASSWORD}@127.0.0.1:{FLEET_PORT}/sdk", "GOVC_INSECURE": "1",
        "GOVC_PERSIST_SESSION": "false", "LIBVIRT_AUTH_FILE": str(auth),
    }
    show = Sessions(host, {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LC_ALL": "C", **variables})
    show.say(f"\n=== Copy these first; {host.name} then looks like a vCenter on {FLEET_PORT} and like an ESXi on {HOST_PORT}")
    for variable, value in variables.items():
        show.say(f"export {variable}={shlex.quote(value)}")
    show.say(f"export PATH={shlex.quote(str(Path(govc).parent))}:$PATH")

    show.say("\n=== govc")
    show.run(govc, "about", expect=("VirtualCenter",))
    show.run(govc, "ls", "-l", "/", expect=("(Datacenter)",))
    show.run(govc, "find", "/", "-type", "m", expect=("web01", "db01"))
    show.run(govc, "vm.info", "web01", expect=("web01", lab.guest_uuid(HOST, "web01"), "128MB", "1 vCPU(s)", "poweredOn"))
    show.run(govc, "vm.change", "-vm", "db01", "-c", "2", "-annotation", "changed through hyperglot")
    show.described("db01", "changed through hyperglot")
    show.run(govc, "folder.create", f"/Datacenter/vm/{FOLDER}")
    show.run(govc, "object.mv", "/Datacenter/vm/db01", f"/Datacenter/vm/{FOLDER}", expect=("OK",))
    show.run(govc, "find", f"/Datacenter/vm/{FOLDER}", "-type", "m", expect=(f"{FOLDER}/db01",))
    show.run(govc, "object.mv", f"/Datacenter/vm/{FOLDER}/db01", "/Datacenter/vm", expect=("OK",))
    show.run(govc, "object.destroy", f"/Datacenter/vm/{FOLDER}", expect=("OK",))
    show.run(govc, "vm.power", "-on", "db01", expect=("OK",))
    show.agree("db01", "running")
    show.run(govc, "object.collect", "-s", "vm/db01", "runtime.powerState", expect=("poweredOn",))

    show.say("=== pyVmomi")
    show.run(python, str(PYVMOMI), "127.0.0.1", str(FLEET_PORT), runner.USER, runner.PASSWORD, "db01",
             expect=("web01", "db01", "poweredOn", "poweredOff", "success"))
    show.agree("db01", "shut off")

    show.say("=== virsh, with libvirt's own esx driver")
    uri = f"esx://{runner.USER}@127.0.0.1:{HOST_PORT}/?no_verify=1"
    show.run("virsh", "-c", uri, "list", "--all", expect=("web01", "db01", "running", "shut off"))
    show.run("virsh", "-c", uri, "dominfo", "web01", expect=(lab.guest_uuid(HOST, "web01"), "running", "131072 KiB"))
    show.run("virsh", "-c", uri, "dumpxml", "web01", expect=("<name>web01</name>", "<domain type='vmware'", "</domain>"))
    boots = host.boots_seen("db01")
    show.run("virsh", "-c", uri, "start", "db01", expect=("Domain 'db01' started",))
    show.agree("db01", "running")
    host.wait_booted("db01", more_than=boots)
    show.run("virsh", "-c", uri, "destroy", "db01", expect=("Domain 'db01' destroyed",))
    show.agree("db01", "shut off")
    return show.wrong


if __name__ == "__main__":
    sys.exit(main())
