"""The real clients, each behind the few lines it takes to start it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from pyVim import connect, task
from pyVmomi import vim, vmodl

from lab import REPO, LabError, LibvirtHost
from runner import PASSWORD, USER, Front, Hyperglot

GOVC = REPO / ".tools" / "bin" / "govc"
POWER = {"running": "poweredOn", "paused": "poweredOn", "shut off": "poweredOff"}


class Session:
    """A pyVmomi session. `version` is one of pyVmomi's version names, or None for the newest both sides speak."""

    def __init__(self, front: Front, user: str = USER, password: str = PASSWORD, version: str | None = None):
        self.front = front
        self.arguments = dict(
            host="127.0.0.1", port=front.port, user=user, pwd=password,
            disableSslCertValidation=True, preferredApiVersions=version, httpConnectionTimeout=60,
        )

    def __enter__(self) -> "Session":
        self.instance = connect.SmartConnect(**self.arguments)
        self.content = self.instance.RetrieveContent()
        return self

    def __exit__(self, *_) -> None:
        try:
            connect.Disconnect(self.instance)
        except vim.fault.NotAuthenticated:
            # The test logged out, or ended the session, itself.
            pass

    def objects(self, kind: type) -> list:
        view = self.content.viewManager.CreateContainerView(self.content.rootFolder, [kind], True)
        try:
            return list(view.view)
        finally:
            view.DestroyView()

    def named(self, kind: type, name: str):
        for found in self.objects(kind):
            if found.name == name:
                return found
        raise LabError(f"no {kind.__name__} is called {name}; there are {[found.name for found in self.objects(kind)]}")

    def vm(self, name: str) -> vim.VirtualMachine:
        return self.named(vim.VirtualMachine, name)

    def perform(self, started: vim.Task, progress: list | None = None):
        """Waits for a task's end; its fault is raised. Progress numbers are appended to `progress`."""
        def seen(_task, percent):
            if progress is not None:
                progress.append(percent)
        task.WaitForTask(started, si=self.instance, onProgressUpdate=seen, maxWaitTime=120)
        return started.info


class Govc:
    """govc, told where to go by its environment alone."""

    def __init__(self, front: Front, user: str = USER, password: str = PASSWORD):
        if not GOVC.exists():
            raise LabError(f"{GOVC} is missing: run 'make setup'")
        self.environment = dict(
            PATH=os.environ["PATH"], HOME=os.environ.get("HOME", "/"), GOVC_URL=f"https://{front.address}/sdk",
            GOVC_USERNAME=user, GOVC_PASSWORD=password, GOVC_INSECURE="1", GOVC_PERSIST_SESSION="false",
        )

    def run(self, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess:
        return subprocess.run([str(GOVC), *arguments], capture_output=True, text=True, timeout=timeout, env=self.environment)

    def __call__(self, *arguments: str, timeout: float = 60.0) -> str:
        done = self.run(*arguments, timeout=timeout)
        if done.returncode != 0:
            raise LabError(f"govc {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()


class VirshEsx:
    """virsh with its esx driver; the password comes from libvirt's own auth file."""

    def __init__(self, front: Front, directory: Path, user: str = USER, password: str = PASSWORD):
        self.uri = f"esx://{user}@127.0.0.1:{front.port}/?no_verify=1"
        self.auth = directory / "esx-auth.conf"
        self.auth.write_text(f"[credentials-lab]\nusername={user}\npassword={password}\n[auth-esx-127.0.0.1]\ncredentials=lab\n")
        self.auth.chmod(0o600)
        self.environment = dict(PATH=os.environ["PATH"], HOME=str(directory), LC_ALL="C", LIBVIRT_AUTH_FILE=str(self.auth))

    def run(self, *arguments: str, timeout: float = 90.0) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["virsh", "-q", "-c", self.uri, *arguments],
            capture_output=True, text=True, timeout=timeout, env=self.environment, stdin=subprocess.DEVNULL,
        )

    def __call__(self, *arguments: str, timeout: float = 90.0) -> str:
        """virsh's answer. A crash, an error and a warning on stderr are all failures."""
        done = self.run(*arguments, timeout=timeout)
        if done.returncode != 0 or done.stderr.strip():
            raise LabError(f"virsh esx {' '.join(arguments)}: status {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()


def eventually(what, reason: str, timeout: float = 60.0, pause: float = 0.1):
    """Waits until `what()` is true and returns its value."""
    deadline = time.monotonic() + timeout
    while not (value := what()):
        if time.monotonic() > deadline:
            raise LabError(f"not within {timeout:.0f} s: {reason}")
        time.sleep(pause)
    return value


def settle(host: LibvirtHost, hyperglot: Hyperglot, guest: str, wanted: str, booted: bool = False) -> str:
    """Puts a guest into a state with virsh directly, and waits until hyperglot shows it."""
    now = host.state(guest)
    saved = host.virsh("list", "--all", "--with-managed-save", "--name").split()
    if guest in saved:
        host.virsh("managedsave-remove", guest)
    if now != wanted:
        if now == "paused":
            host.virsh("resume", guest)
            now = "running"
        if now != wanted and now not in ("shut off", "crashed"):
            host.virsh("destroy", guest)
        if wanted == "running" and now != "running":
            boots = host.boots_seen(guest)
            host.virsh("start", guest)
            if booted:
                host.wait_booted(guest, more_than=boots)
    elif booted and not host.boots_seen(guest):
        host.wait_booted(guest)
    with Session(hyperglot.front("fleet")) as session:
        vm = session.vm(guest)
        eventually(
            lambda: vm.runtime.powerState == POWER[wanted],
            f"hyperglot shows {guest} as {POWER[wanted]} (it shows {vm.runtime.powerState})",
        )
    return guest


def fault_name(raised: BaseException) -> str:
    """The wire name of a fault that pyVmomi raised."""
    if isinstance(raised, vmodl.MethodFault):
        return type(raised)._wsdlName
    return type(raised).__name__
