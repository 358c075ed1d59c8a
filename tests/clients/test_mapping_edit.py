"""An integration engineer edits mapping files: no Rust, a checker that tells everything at once."""

import shutil
import subprocess

import pytest

import lab
import runner
from clients import Govc, VirshEsx
from lab import REPO

NEW_ROW = '"config.locationId" = { to = "uuid", dup = "view" }\n'


@pytest.fixture
def mappings(tmp_path):
    """A copy of the mapping files, without the crate around them."""
    copy = tmp_path / "mappings"
    shutil.copytree(REPO / "mappings", copy, ignore=shutil.ignore_patterns("src", "Cargo.toml", "target"))
    return copy


def rows_of(mappings, text: str) -> None:
    """Adds rows to the machine's table."""
    file = mappings / "vsphere" / "VirtualMachine.toml"
    head = "[object.VirtualMachine.rows]\n"
    assert head in file.read_text()
    file.write_text(file.read_text().replace(head, head + text, 1))


def check(mappings) -> subprocess.CompletedProcess:
    return runner.run_binary("mapping", "check", str(mappings), timeout=60)


def test_the_files_as_they_are_pass(mappings):
    done = check(mappings)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_cases_pass(mappings):
    done = runner.run_binary("mapping", "test", str(mappings), timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_new_row_shows_in_govc_after_a_restart(host, work, mappings):
    path, uuid = "config.locationId", lab.guest_uuid("lab01", "web01")
    fronts = [runner.Front("fleet", runner.free_port())]
    targets = [runner.libvirt_target(host.uri, "lab01")]
    with runner.Hyperglot(work / "edited", targets, fronts, mappings=mappings) as own:
        assert Govc(own.front("fleet"))("object.collect", "-s", "vm/web01", path) == "", "nothing maps it yet"
    rows_of(mappings, NEW_ROW)
    done = check(mappings)
    assert done.returncode == 0, done.stdout + done.stderr
    with runner.Hyperglot(work / "edited", targets, fronts, mappings=mappings) as own:
        assert Govc(own.front("fleet"))("object.collect", "-s", "vm/web01", path) == uuid


BROKEN = (
    '"config.locatonId" = "uuid"\n'          # no such native property
    '"config.npivDesiredNodeWwns" = "uuidd"\n'   # no such union field
    '"config.npivDesiredPortWwns" = "cpu_count | mibb"\n'   # no such lens
)


def test_a_broken_file_is_refused_with_every_error(mappings):
    rows_of(mappings, BROKEN)
    done = check(mappings)
    said = done.stdout + done.stderr
    assert done.returncode == 65, said
    for wrong, meant in (("locatonId", "locationId"), ("uuidd", "uuid"), ("mibb", "mib")):
        assert wrong in said, f"'{wrong}' is not reported in:\n{said}"
        assert meant in said.replace(wrong, ""), f"'{meant}' is not offered for '{wrong}' in:\n{said}"
    lines = (mappings / "vsphere" / "VirtualMachine.toml").read_text().splitlines()
    for wrong in ("locatonId", "uuidd", "mibb"):
        number = next(number for number, line in enumerate(lines, 1) if wrong in line)
        assert f"VirtualMachine.toml:{number}" in said, f"line {number} is not named in:\n{said}"


def test_a_file_that_is_no_toml_is_refused(mappings):
    (mappings / "vsphere" / "VirtualMachine.toml").write_text("[object.VirtualMachine\n")
    done = check(mappings)
    assert done.returncode == 65
    assert "VirtualMachine.toml:1" in done.stdout + done.stderr


def test_up_refuses_broken_mappings(work, mappings):
    rows_of(mappings, BROKEN)
    instance = runner.Hyperglot(work / "broken", [runner.sim_target(2, 1)], [runner.Front("fleet", runner.free_port())], mappings=mappings)
    instance.write_config()
    done = instance.command("up", "--config", str(instance.config), timeout=60)
    assert done.returncode == 65, done.stderr
    for wrong in ("locatonId", "uuidd", "mibb"):
        assert wrong in done.stdout + done.stderr


def test_an_unknown_field_in_the_configuration_is_refused(work):
    instance = runner.Hyperglot(work / "misspelt", [runner.sim_target(2, 1)], [])
    instance.write_config()
    instance.config.write_text(instance.config.read_text() + "\n[buss]\nport = 1\n")
    done = instance.command("up", "--config", str(instance.config), timeout=30)
    assert done.returncode == 78
    assert "buss" in done.stderr and "hyperglot.toml" in done.stderr


def test_explain_and_coverage(mappings):
    coverage = runner.run_binary("mapping", "coverage", str(mappings), timeout=60)
    assert coverage.returncode == 0, coverage.stderr
    assert "PowerOn" in coverage.stdout


def test_virsh_still_reads_the_machine_after_the_edit(host, work, mappings):
    rows_of(mappings, NEW_ROW)
    fronts = [runner.Front("host", runner.free_port(), host="lab01")]
    with runner.Hyperglot(work / "edited-esx", [runner.libvirt_target(host.uri, "lab01")], fronts, mappings=mappings) as own:
        directory = work / "edited-esx"
        assert "web01" in VirshEsx(own.front("host"), directory)("list", "--all")
