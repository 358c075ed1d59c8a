"""A host of one's own for what changes machines, and what is asked of libvirt directly about it."""

import xml.etree.ElementTree as xml

import pytest

import clients
import lab
import runner
from clients import Session

OFF, ON = "app02", "app01"
GUESTS = [
    lab.Guest(ON, memory_mib=128, vcpus=1, description="runs"),
    lab.Guest(OFF, memory_mib=128, vcpus=1, description="is off"),
]
IMAGE = "rescue.iso"
SECOND_NETWORK = "backend"


class Bench:
    """A private host, `hyperglot up` over it, and its clients."""

    def __init__(self, host, instance):
        self.host, self.instance = host, instance

    @property
    def front(self):
        return self.instance.front("fleet")

    def govc(self, *arguments, **options):
        return clients.Govc(self.front)(*arguments, **options)

    def try_govc(self, *arguments):
        return clients.Govc(self.front).run(*arguments)

    def session(self, **who):
        return Session(self.front, **who)

    def domain(self, guest, inactive=True):
        """What libvirt itself says of a guest."""
        flags = ["--inactive"] if inactive else []
        return xml.fromstring(self.host.virsh("dumpxml", *flags, guest))

    def domains(self):
        return set(self.host.virsh("list", "--all", "--name").split())


def text(domain, path):
    found = domain.find(path)
    return None if found is None else found.text


def without(domain, *paths):
    """The document without these elements, as text, to compare the rest."""
    domain = xml.fromstring(xml.tostring(domain))
    for path in paths:
        parent = domain if "/" not in path else domain.find(path.rsplit("/", 1)[0])
        for element in list(parent.findall(path.rsplit("/", 1)[-1])):
            parent.remove(element)
    return xml.canonicalize(xml.tostring(domain), strip_text=True)


def make(directory, name):
    """A started host with an image, a second network and the guests, one of them running."""
    host = lab.LibvirtHost(directory / name, name).start()
    host.provision(GUESTS)
    host.virsh("vol-create-as", "default", IMAGE, "1M", "--format", "raw")
    host._define("net-define", (
        f"<network><name>{SECOND_NETWORK}</name><bridge name='virbr1' stp='off' delay='0'/>"
        "<ip address='192.168.123.1' netmask='255.255.255.0'/></network>"
    ))
    host.virsh("net-start", SECOND_NETWORK)
    host.virsh("start", ON)
    host.wait_booted(ON)
    return host


@pytest.fixture(scope="module")
def bench(work, request):
    """A host of this module's own; `app01` runs and `app02` is off."""
    directory = work / request.module.__name__.removeprefix("test_")[:8]
    host = make(directory, "lab02")
    try:
        fronts = [runner.Front("fleet", runner.free_port()), runner.Front("host", runner.free_port(), host="lab02")]
        with runner.Hyperglot(directory / "up", [runner.libvirt_target(host.uri, "lab02")], fronts) as instance:
            yield Bench(host, instance)
    finally:
        host.stop()
