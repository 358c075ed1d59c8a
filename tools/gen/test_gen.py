"""Tests of the schema importers, without network: small descriptions in, schema lines out, and the committed schemas' own consistency."""

import hashlib
import re
import unittest

import libvirt_rpc
import sources
import vim_schema

VERSIONS = """
AddVersion("vmodl.version.version0", "", "", 0, "vim25")
AddVersion("vmodl.version.version1", "", "", 0, "vim25")
AddVersion("vim.version.version1", "vim2", "2.0", 0, "vim25")
AddVersion("vim.version.version4", "vim25", "2.5u2server", 0, "vim25")
AddVersion("vim.version.version5", "vim25", "4.0", 0, "vim25")
AddVersionParent("vim.version.version1", "vmodl.version.version0")
AddVersionParent("vim.version.version1", "vim.version.version1")
AddVersionParent("vim.version.version5", "vmodl.version.version0")
AddVersionParent("vim.version.version5", "vmodl.version.version1")
AddVersionParent("vim.version.version5", "vim.version.version1")
AddVersionParent("vim.version.version5", "vim.version.version4")
AddVersionParent("vim.version.version5", "vim.version.version5")
CreateDataType("vmodl.DynamicData", "DynamicData", "vmodl.DataObject", "vmodl.version.version0", None)
CreateDataType("vmodl.LocalizableMessage", "LocalizableMessage", "vmodl.DynamicData", "vmodl.version.version1", None)
"""


def imported(text):
    return [line for line in vim_schema.Schema([("test", VERSIONS + text)]).lines() if not line.startswith("#")]


class Vim(unittest.TestCase):
    def test_properties_keep_their_order_and_take_wire_names(self):
        lines = imported(
            'CreateEnumType("vim.Color", "ColorKind", "vim.version.version5", ["red", "green"])\n'
            'CreateDataType("vim.Lun", "HostLun", "vmodl.DynamicData", "vim.version.version1", ['
            '("path", "vmodl.PropertyPath[]", "vim.version.version1", F_OPTIONAL),'
            '("color", "vim.Color", "vim.version.version4", 0),'
            '("other", "vim.Lun", "vim.version.version1", F_LINK | F_OPTIONAL),'
            '("cause", "vmodl.RuntimeFault", "vim.version.version1", 0),'
            '("owner", "vmodl.ManagedObject", "vim.version.version1", 0)])'
        )
        at = lines.index("data HostLun : DynamicData")
        self.assertEqual(lines[at + 1:at + 6], [
            "  path string?*", "  color ColorKind 4.0", "  other string?", "  cause LocalizedMethodFault", "  owner &ManagedObject",
        ])
        self.assertIn("enum ColorKind 4.0", lines)
        self.assertEqual(lines[0], "versions 2.0 4.0")

    def test_methods_carry_parameters_result_and_faults(self):
        lines = imported(
            'CreateDataType("vim.Busy", "Busy", "vmodl.MethodFault", "vim.version.version1", None)\n'
            'CreateManagedType("vim.Task", "Task", "vmodl.ManagedObject", "vim.version.version1", None, ['
            '("cancel", "CancelTask", "vim.version.version1", (), (0, "void", "void"), None, None),'
            '("run", "Run_Task", "vim.version.version5", (("n", "int", "vim.version.version5", F_OPTIONAL, None),),'
            ' (0, "vim.Task", "void"), "A.B", ["vim.Busy", ])])'
        )
        self.assertIn("fault Busy : MethodFault", lines)
        self.assertIn("  !CancelTask ()", lines)
        self.assertIn("  !Run_Task 4.0 (n int? 4.0) -> &Task ~ Busy", lines)

    def test_the_fault_inside_a_localized_fault_is_bare(self):
        lines = imported("")
        at = lines.index("data LocalizedMethodFault : DynamicData")
        self.assertEqual(lines[at + 1:at + 3], ["  fault MethodFault", "  localizedMessage string?"])
        at = lines.index("fault MethodFault")
        self.assertEqual(lines[at + 1], "  faultCause LocalizedMethodFault? 4.0")

    def test_what_is_not_understood_is_refused(self):
        for text, said in [
            ('CreateDataType("vim.X", "X", "vmodl.DynamicData", "vim.version.version1", [("a", "vim.Gone", "vim.version.version1", 0)])', "vim.Gone"),
            ('CreateDataType("vim.X", "DynamicData", "vmodl.DynamicData", "vim.version.version1", None)', "names both"),
            ("CreateSomethingNew()", "CreateSomethingNew"),
            ("AddVersion(print(1))", "expected a literal"),
        ]:
            with self.assertRaisesRegex(sources.GenError, said):
                imported(text)


XDR = """
%#include "x.h"
const MAX = 0x10; /* a limit */
const LABEL = VIR_LABEL_BUFLEN;
typedef string text<MAX>;
typedef text *maybe;
typedef opaque id[16];
enum kind { KIND_A = 0, KIND_B = 7 };
struct item { text name; id uuid; kind which; unsigned char state; char type; };
typedef item *item_or_none;
union value switch (int type) { case KIND_A: int i; case KIND_B: text s; };
struct all { maybe m; item_or_none o; item list<MAX>; maybe ms<2>; value v; char label<LABEL>; char model[32]; opaque raw<MAX>; unsigned hyper h; };
"""


class Libvirt(unittest.TestCase):
    def setUp(self):
        self.protocol = libvirt_rpc.Protocol()
        self.protocol.borrowed = libvirt_rpc.header_constants("# define VIR_LABEL_BUFLEN (4096 + 1)\n")

    def test_layouts_are_resolved(self):
        self.protocol.read(XDR)
        self.assertEqual(self.protocol.constants, {"MAX": 16, "LABEL": 4097, "KIND_A": 0, "KIND_B": 7})
        self.assertEqual([kind for _, kind in self.protocol.structs["item"]], ["string<16>", "opaque[16]", "int", "uint", "int"])
        self.assertEqual([kind for _, kind in self.protocol.structs["all"]], [
            "string<16>?", "item?", "item<16>", "string<16>?<2>", "value", "char<4097>", "char[32]", "opaque<16>", "uhyper",
        ])
        self.assertEqual(self.protocol.unions["value"], [(0, "int"), (7, "string<16>")])

    def test_procedures_find_their_structs_and_streams(self):
        self.protocol.read(
            "struct remote_a_args { int x; }; struct remote_b_event_msg { int x; }; enum remote_procedure {\n"
            "/** @readstream: 1\n */ REMOTE_PROC_A = 1, /** @acl: none */ REMOTE_PROC_B_EVENT = 2 };"
        )
        self.assertEqual([self.protocol.proc(entry)[0] for entry in self.protocol.procedures], [
            "proc 1 REMOTE_PROC_A remote_a_args - readstream", "proc 2 REMOTE_PROC_B_EVENT remote_b_event_msg - event",
        ])
        with self.assertRaisesRegex(sources.GenError, "expected procedures 1 to 443"):
            self.protocol.check(set())

    def test_what_is_not_understood_is_refused(self):
        for text, said in [("struct s { gone x; };", "gone"), ("struct s { string x; };", "no bound"), ("const A = B;", "B"), ("thing t;", "thing t")]:
            with self.assertRaisesRegex(sources.GenError, said):
                self.protocol.read(text)

    def test_source_lists_come_from_the_binary_ones(self):
        old = "# c\ndeb [arch=amd64] http://a.example/debian bookworm main contrib\ndeb http://b.example/other stable main\n"
        new = "Types: deb\nURIs: http://a.example/debian\nSuites: bookworm bookworm-updates\nSigned-By: /k.gpg\n\nTypes: deb\nURIs: http://b.example\nSuites: nodistro\n"
        self.assertEqual(list(libvirt_rpc.deb_src(old, ".list")), ["deb-src [arch=amd64] http://a.example/debian bookworm main"])
        self.assertEqual(sorted(libvirt_rpc.deb_src(new, ".sources")), [
            "deb-src [signed-by=/k.gpg] http://a.example/debian bookworm main",
            "deb-src [signed-by=/k.gpg] http://a.example/debian bookworm-updates main",
        ])


class Committed(unittest.TestCase):
    """The schemas as committed name nothing that they do not define."""

    @staticmethod
    def lines(path):
        return [line for line in (sources.ROOT / path).read_text().splitlines() if not line.startswith("#")]

    def test_vim25_is_closed(self):
        lines = self.lines(vim_schema.RESULT)
        versions = set(lines[0].split()[1:])
        types = {line.split()[1]: line.split()[0] for line in lines[1:] if not line.startswith(" ")}
        known = types.keys() | set(vim_schema.PRIMITIVES.values())
        kind, faults = None, [name for name, word in types.items() if word == "fault"]
        for line in lines[1:]:
            head = re.fullmatch(r"(\w+) \w+(?: : (\w+))?(?: (\S+))?", line)
            if head:
                kind = head[1]
                self.assertEqual(types.get(head[2], kind), kind, line)
                self.assertIn(head[3] or lines[0].split()[1], versions, line)
            elif kind == "enum":
                self.assertRegex(line, r"^  \S+$")
            else:
                method = re.fullmatch(r"  !\w+( \S+)? \((.*?)\)(?: -> (\S+))?(?: ~ (.+))?", line)
                self.assertEqual(method is not None, line.startswith("  !"), line)
                members = filter(None, method[2].split(", ")) if method else [line.strip()]
                used = [method[3]] if method and method[3] else []
                for member in members:
                    name, used_type, *version = member.split()
                    used.append(used_type)
                    self.assertLessEqual(set(version), versions, line)
                self.assertLessEqual(set((method and method[4] or "").split()), set(faults), line)
                for used_type in used:
                    bare = re.fullmatch(r"(&?)(\w+)\??\*?", used_type)
                    self.assertIn(bare[2], known, line)
                    self.assertEqual(bare[1] == "&", types.get(bare[2]) == "managed", line)

    def test_remote_is_closed(self):
        lines = self.lines(libvirt_rpc.RESULT)
        known = {line.split()[1] for line in lines if line.startswith(("struct", "union"))} | {"int", "uint", "hyper", "uhyper", "double", "bool"}
        for line in lines:
            if line.startswith("  "):
                used = re.fullmatch(r"  \w+ (?:(?:string|opaque)(?:<\d+>)|opaque\[\d+\]|char[<\[]\d+[>\]]|(\w+))\??(?:<\d+>|\[\d+\])?", line)
                self.assertIsNotNone(used, line)
                self.assertIn(used[1] or "int", known, line)
            elif line.startswith("proc"):
                self.assertLessEqual(set(line.split()[3:5]) - {"-"}, known, line)
        self.assertEqual(sum(line.startswith("proc") for line in lines), libvirt_rpc.PROCEDURES)


class Sources(unittest.TestCase):
    def test_a_wrong_checksum_is_refused(self):
        self.assertEqual(sources.verified("x", b"a", hashlib.sha256(b"a").hexdigest()), b"a")
        with self.assertRaisesRegex(sources.GenError, "x: expected SHA-256"):
            sources.verified("x", b"a", "00")


if __name__ == "__main__":
    unittest.main()
