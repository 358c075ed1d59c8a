"""virsh with libvirt's own esx driver, against the host front: right answers, no crash, no warning."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

import clients
import lab
from clients import LabError


def fields(text: str) -> dict[str, str]:
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def rows(text: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.strip()]


def test_list(virsh_esx, web01, db01):
    listed = {row[1]: (row[0], row[2]) for row in rows(virsh_esx("list", "--all"))}
    assert set(listed) == {"web01", "db01"}
    assert listed["web01"][1] == "running" and int(listed["web01"][0]) > 0
    assert listed["db01"] == ("-", "shut off")
    assert virsh_esx("list", "--name") == "web01"


def test_dominfo(virsh_esx, web01, db01):
    info = fields(virsh_esx("dominfo", "web01"))
    assert info["Name"] == "web01"
    assert info["UUID"] == lab.guest_uuid("lab01", "web01")
    assert info["OS Type"] == "hvm"
    assert info["State"] == "running"
    assert info["CPU(s)"] == "1"
    assert info["Max memory"] == f"{128 * 1024} KiB"
    assert info["Persistent"] == "yes"
    off = fields(virsh_esx("dominfo", "db01"))
    assert (off["State"], off["CPU(s)"], off["Max memory"]) == ("shut off", "2", f"{256 * 1024} KiB")


def test_the_domain_is_found_by_each_of_its_names(virsh_esx, web01):
    uuid = lab.guest_uuid("lab01", "web01")
    assert virsh_esx("domuuid", "web01") == uuid
    assert virsh_esx("domname", uuid) == "web01"
    number = virsh_esx("domid", "web01")
    assert virsh_esx("domname", number) == "web01"


@pytest.mark.parametrize("name, memory_mib, vcpus", [("web01", 128, 1), ("db01", 256, 2)])
def test_dumpxml(virsh_esx, web01, db01, name, memory_mib, vcpus):
    domain = ElementTree.fromstring(virsh_esx("dumpxml", name))
    assert domain.get("type") == "vmware"
    assert domain.findtext("name") == name
    assert domain.findtext("uuid") == lab.guest_uuid("lab01", name)
    assert int(domain.findtext("memory")) == memory_mib * 1024
    assert int(domain.findtext("vcpu")) == vcpus
    disk = domain.find("devices/disk[@device='disk']/source")
    assert disk is not None and disk.get("file", "").startswith("[default]")
    mac = domain.find("devices/interface/mac")
    assert mac is not None and mac.get("address") == lab.guest_mac("lab01", name)


def test_start_and_destroy(host, virsh_esx, db01):
    virsh_esx("start", db01)
    assert host.state(db01) == "running"
    assert virsh_esx("domstate", db01) == "running"
    virsh_esx("destroy", db01)
    assert host.state(db01) == "shut off"
    assert virsh_esx("domstate", db01) == "shut off"


def test_shutdown(host, virsh_esx, web01):
    virsh_esx("shutdown", web01)
    host.wait_state(web01, "shut off")
    clients.eventually(lambda: virsh_esx("domstate", web01) == "shut off", "virsh over esx sees it")


def test_reboot(host, virsh_esx, web01):
    boots = host.boots_seen(web01)
    virsh_esx("reboot", web01)
    host.wait_booted(web01, more_than=boots)


def test_suspend_and_resume(host, virsh_esx, web01):
    """The esx driver's suspend is SuspendVM_Task; libvirt calls the result paused."""
    boots = host.boots_seen(web01)
    virsh_esx("suspend", web01)
    assert virsh_esx("domstate", web01) == "paused"
    assert web01 in host.virsh("list", "--all", "--with-managed-save", "--name").split()
    virsh_esx("resume", web01)
    assert virsh_esx("domstate", web01) == "running"
    assert host.state(web01) == "running"
    assert host.boots_seen(web01) == boots


def test_start_what_runs_is_an_error(virsh_esx, web01):
    with pytest.raises(LabError, match="not in powered off state|already"):
        virsh_esx("start", web01)


def test_pool_list_and_info(host, virsh_esx):
    assert [row[:2] for row in rows(virsh_esx("pool-list", "--all"))] == [["default", "active"]]
    info = fields(virsh_esx("pool-info", "default"))
    assert info["State"] == "running"
    ours, theirs = (virsh_info["Capacity"] for virsh_info in (info, fields(host.virsh("pool-info", "default"))))
    assert ours == theirs


def test_net_list(virsh_esx):
    assert rows(virsh_esx("net-list", "--all"))[0][:2] == ["default", "active"]


def test_nodeinfo(host, virsh_esx):
    info, direct = fields(virsh_esx("nodeinfo")), fields(host.virsh("nodeinfo"))
    assert info["CPU(s)"] == direct["CPU(s)"]

    def same_memory():
        return fields(virsh_esx("nodeinfo"))["Memory size"] == fields(host.virsh("nodeinfo"))["Memory size"]

    # A virtual machine's own memory may grow while the tests run; no event tells, the host is read again every minute.
    clients.eventually(same_memory, "the memory that libvirt says", timeout=90, pause=2)
    assert info["CPU model"]
    assert int(info["CPU frequency"].split()[0]) > 0


def test_host_names_itself(virsh_esx):
    assert virsh_esx("hostname").split(".")[0] == "lab01"
    assert virsh_esx("capabilities").startswith("<capabilities>")


def test_a_wrong_password_is_refused(hyperglot, work):
    refused = clients.VirshEsx(hyperglot.front("host"), work, password="wrong").run("list")
    assert refused.returncode == 1
    assert "Cannot complete login" in refused.stderr or "InvalidLogin" in refused.stderr or "incorrect user name" in refused.stderr, refused.stderr


def test_an_esx_url_does_not_fit_a_vcenter(hyperglot, work):
    refused = clients.VirshEsx(hyperglot.front("fleet"), work).run("list")
    assert refused.returncode == 1
    assert "to be a ESX(i) host but found a vCenter" in refused.stderr
