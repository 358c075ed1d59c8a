"""What a virtual machine may be made of, as clients ask before they make one."""

import json

import pytest
from pyVmomi import vim, vmodl

import clients


def browser(session):
    return session.named(vim.ComputeResource, "lab01").environmentBrowser


@pytest.mark.parametrize("view", ["fleet", "host"])
def test_govc_options(hyperglot, view):
    govc = clients.Govc(hyperglot.front(view))
    versions = json.loads(govc("vm.option.ls", "-json"))
    assert [(version["key"], version["createSupported"]) for version in versions] == [("vmx-21", True)]
    assert "ubuntu64Guest" in govc("vm.option.info", "-cluster" if view == "fleet" else "-host", "lab01")
    (found,) = json.loads(govc("vm.option.info", "-json", "rhel9_64Guest"))["guestOSDescriptor"]
    assert (found["family"], found["supportedMaxCPUs"]) == ("linuxGuest", 128)
    target = govc("vm.target.info")
    assert "CPUs" in target
    assert govc("vm.target.cap.ls")


def test_the_whole_option(fleet):
    (descriptor,) = browser(fleet).QueryConfigOptionDescriptor()
    assert descriptor.defaultConfigOption and [host.name for host in descriptor.host] == ["lab01"]
    option = browser(fleet).QueryConfigOption(key=descriptor.key)
    assert option.version == descriptor.key
    assert {type(device) for device in option.defaultDevice} >= {vim.vm.device.VirtualIDEController, vim.vm.device.VirtualPCIController}
    assert option.hardwareOptions.numCoresPerSocket.max > 1 and option.capabilities.bootOptionsSupported
    assert option.guestOSDescriptor[option.guestOSDefaultIndex].id == "otherGuest64"
    named = browser(fleet).QueryConfigOptionEx(vim.EnvironmentBrowser.ConfigOptionQuerySpec(guestId=["debian12_64Guest"]))
    assert [guest.fullName for guest in named.guestOSDescriptor] == ["Debian GNU/Linux 12 (64-bit)"]
    for key in ("vmx-08", "nonsense"):
        with pytest.raises(vmodl.fault.InvalidArgument) as refused:
            browser(fleet).QueryConfigOption(key=key)
        assert refused.value.invalidProperty == "key"


def test_the_target_is_the_host(fleet):
    host = fleet.named(vim.HostSystem, "lab01")
    for target in (browser(fleet).QueryConfigTarget(), browser(fleet).QueryConfigTarget(host)):
        assert (target.numCpus, target.numCpuCores) == (host.hardware.cpuInfo.numCpuThreads, host.hardware.cpuInfo.numCpuCores)
        assert [store.name for store in target.datastore] == [store.name for store in host.datastore]
        assert [network.name for network in target.network] == [network.name for network in host.network]
        assert target.datastore[0].datastore.datastore == host.datastore[0]
        assert target.maxMemMBOptimalPerf == host.hardware.memorySize // 2**20
    assert browser(fleet).QueryTargetCapabilities(host).maxSupportedVcpus == host.capability.maxSupportedVcpus
    # A VM's own browser is its compute resource's.
    assert fleet.vm("web01").environmentBrowser == browser(fleet)


def test_a_host_of_another_compute_resource(sim):
    with clients.Session(sim.front("fleet")) as session:
        first, second = session.objects(vim.ComputeResource)[:2]
        assert first.host[0] != second.host[0]
        with pytest.raises(vmodl.fault.InvalidArgument):
            first.environmentBrowser.QueryConfigTarget(second.host[0])
