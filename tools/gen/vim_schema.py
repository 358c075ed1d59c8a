#!/usr/bin/env python3
"""Imports the vim25 schema: pyVmomi's type descriptions -> mappings/vsphere/schema/vim25.schema.

pyVmomi (PyPI, Apache-2.0) describes every vim25 type in `_typeinfo_*.py` as calls with literal arguments. They are read as
a syntax tree and never run. Only facts are taken: names, types, order, optionality, first versions, declared faults.

    vim_schema.py                   downloads the pinned wheel with pip into a temporary directory
    vim_schema.py --wheel FILE      uses a wheel that is already here (same checksum)
"""

import argparse
import ast
import pathlib
import re
import sys
import tempfile
import zipfile

from sources import GenError, guarded, run, verified, write

PACKAGE, VERSION = "pyvmomi", "9.1.1.0"
WHEEL_SHA256 = "76af3cba85573769daf4e6760aace32e7af34e1bbf343895b8c4798b6bc0e2d2"
MODULES = ("core", "query", "vim")
RESULT = "mappings/vsphere/schema/vim25.schema"

# Names a client may negotiate. Two further ids exist between them and are never offered: 2.5u2server and a build's hash.
NEGOTIABLE = re.compile(r"\d+(\.\d+)+(u\d+)?")

# What the type descriptions call a primitive -> its name in XML Schema. Names of types, methods and paths travel as strings.
PRIMITIVES = {
    "string": "string",
    "boolean": "boolean",
    "byte": "byte",
    "short": "short",
    "int": "int",
    "long": "long",
    "float": "float",
    "double": "double",
    "anyType": "anyType",
    "vmodl.DateTime": "dateTime",
    "vmodl.Binary": "base64Binary",
    "vmodl.URI": "anyURI",
    "vmodl.TypeName": "string",
    "vmodl.MethodName": "string",
    "vmodl.PropertyPath": "string",
}

# Types the package builds in code (VmomiSupport.py) rather than in a description: vmodl name, wire name, parent, version, properties.
# MethodFault's `msg` is left out: it is filled from the envelope and never an element. On the wire neither MethodFault nor
# LocalizedMethodFault repeats DynamicData's elements under a fault, so MethodFault stands without a parent.
OLDEST = "vmodl.version.version0"
BUILT_IN = (
    ("vmodl.MethodFault", "MethodFault", None, OLDEST, [
        ("faultCause", "vmodl.MethodFault", "vmodl.version.version1", {"F_OPTIONAL"}),
        ("faultMessage", "vmodl.LocalizableMessage[]", "vmodl.version.version1", {"F_OPTIONAL"}),
    ]),
    ("vmodl.RuntimeFault", "RuntimeFault", "vmodl.MethodFault", OLDEST, []),
    ("vmodl.LocalizedMethodFault", "LocalizedMethodFault", "vmodl.DynamicData", OLDEST, [
        ("fault", "vmodl.MethodFault", OLDEST, {"bare"}),
        ("localizedMessage", "string", OLDEST, {"F_OPTIONAL"}),
    ]),
    ("vmodl.ManagedObjectReference", "ManagedObjectReference", None, OLDEST, []),
)

HEAD = """\
# vim25: the types of the vSphere Web Services API that the vSphere front serves.
# Made by tools/gen/vim_schema.py from {package} {version} (PyPI, Apache-2.0). Facts only. Never edited by hand: `make gen`.
# Everything in namespace vim25 that the source describes is here, not only what is served. Wire names throughout.
#
# One fact a line. Indented lines belong to the type above them. A line whose first character is `#` is a comment.
#   versions V...                       the ids a client may negotiate, ascending; each includes all before it
#   enum NAME [V]                       then its values, one a line
#   data NAME [: BASE] [V]              then its own properties, in wire order (a base's properties come first on the wire)
#   fault NAME [: BASE] [V]             as data; MethodFault and everything below it
#   managed NAME [: BASE] [V]           then its own properties, then its own methods
#     NAME TYPE [V]                     a property
#     !NAME [V] (PARAM, ...) [-> TYPE] [~ FAULT ...]
#                                       a method; PARAM is `NAME TYPE [V]`; no `->` means it returns nothing; after `~` the declared
#                                       faults (RuntimeFault may always come)
# V is the first version that has the thing; none means the oldest ({oldest}). A property without `?` is required from its V on.
# TYPE is T, T? (optional), T* (array), T?* (optional array). T is a primitive (string boolean byte short int long float double
# dateTime base64Binary anyURI anyType, XML Schema's), an enum, a data or fault name, or &M: a ManagedObjectReference to an M or
# a type below it (&ManagedObject: to anything). A property declared as a fault is LocalizedMethodFault, as on the wire; only
# LocalizedMethodFault.fault holds the bare fault. A property declared as a link to another object of the same document is a
# string: that object's key. ManagedObjectReference has text content (the id) and the attribute `type`, no elements.
# The source gives no first version for a single enum value.
"""


def flags(node):
    """The names in an expression such as `F_LINK | F_OPTIONAL`; the literal 0 is none."""
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}


def described(node):
    """A call's argument: like ast.literal_eval, with flag expressions as sets of names."""
    if isinstance(node, (ast.List, ast.Tuple)):
        return [described(item) for item in node.elts]
    if isinstance(node, (ast.BinOp, ast.Name)):
        return flags(node)
    if isinstance(node, ast.Constant):
        return set() if node.value == 0 and not isinstance(node.value, bool) else node.value
    raise GenError(f"typeinfo line {node.lineno}: expected a literal or a flag, found {ast.unparse(node)[:60]}")


def calls(source, name):
    """Every top-level call of one description file as (function, arguments)."""
    for statement in ast.parse(source, name).body:
        call = getattr(statement, "value", None)
        if isinstance(statement, ast.Expr) and isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            yield call.func.id, [described(argument) for argument in call.args]


class Schema:
    """All types by vmodl name, and how a version of the source maps to a negotiable one."""

    def __init__(self, texts):
        self.ids, self.parents = {}, {}
        self.enums, self.datas, self.managed = {}, {}, {"vmodl.ManagedObject": ("ManagedObject", None, OLDEST, [], [])}
        for vmodl, wire, base, version, properties in BUILT_IN:
            self.datas[vmodl] = (wire, base, version, properties)
        for name, text in texts:
            for function, arguments in calls(text, name):
                self.add(function, arguments)
        self.names()
        self.order()

    def add(self, function, arguments):
        if function == "AddVersion":
            self.ids[arguments[0]] = arguments[2]
        elif function == "AddVersionParent":
            self.parents.setdefault(arguments[0], set()).add(arguments[1])
        elif function == "CreateEnumType":
            vmodl, wire, version, values = arguments
            self.enums[vmodl] = (wire, version, values)
        elif function == "CreateDataType":
            vmodl, wire, base, version, properties = arguments
            self.datas[vmodl] = (wire, None if base == "vmodl.DataObject" else base, version, properties or [])
        elif function == "CreateManagedType":
            vmodl, wire, base, version, properties, methods = arguments
            self.managed[vmodl] = (wire, base, version, properties or [], methods or [])
        elif function != "AddBreakingChangesInfo":
            raise GenError(f"typeinfo: unknown description `{function}`; teach tools/gen/vim_schema.py what it means")

    def names(self):
        """One wire name belongs to one type."""
        seen = {}
        for kind in (self.enums, self.datas, self.managed):
            for vmodl, entry in kind.items():
                if seen.setdefault(entry[0], vmodl) != vmodl:
                    raise GenError(f"{entry[0]} names both {seen[entry[0]]} and {vmodl}")

    def order(self):
        """Finds the negotiable versions, checks that each includes all before it, and maps every other version to the first that has it."""
        offered = [v for v in self.ids if v.startswith("vim.") and NEGOTIABLE.fullmatch(self.ids[v])]
        offered.sort(key=lambda v: len(self.parents[v]))
        for older, newer in zip(offered, offered[1:]):
            if not self.parents[older] < self.parents[newer]:
                raise GenError(f"version {self.ids[newer]} does not include {self.ids[older]}: versions are no longer a chain")
        self.versions = [self.ids[v] for v in offered]
        self.first = {v: next((self.ids[o] for o in offered if v in self.parents[o]), None) for v in self.ids}

    def since(self, version):
        """` V`, or nothing for the oldest version."""
        first = self.first.get(version)
        if first is None:
            raise GenError(f"version {version} is in no negotiable version")
        return "" if first == self.versions[0] else f" {first}"

    def is_fault(self, vmodl):
        while vmodl in self.datas:
            if vmodl == "vmodl.MethodFault":
                return True
            vmodl = self.datas[vmodl][1]
        return False

    def wire(self, vmodl):
        """A type's wire name, for bases and declared faults."""
        for kind in (self.datas, self.managed):
            if vmodl in kind:
                return kind[vmodl][0]
        raise GenError(f"type {vmodl} is named but not described")

    def type(self, declared, marks):
        """A property's, parameter's or result's type as the schema writes it."""
        item = declared.removesuffix("[]")
        if "F_LINK" in marks:
            name = "string"
        elif item in PRIMITIVES:
            name = PRIMITIVES[item]
        elif item in self.enums:
            name = self.enums[item][0]
        elif item in self.managed:
            name = "&" + self.managed[item][0]
        elif item in self.datas:
            bare = "bare" in marks or not self.is_fault(item)
            name = self.datas[item][0] if bare else "LocalizedMethodFault"
        else:
            raise GenError(f"type {declared} is named but not described")
        return name + ("?" if "F_OPTIONAL" in marks else "") + ("*" if item != declared else "")

    def members(self, properties):
        """Property or parameter texts; anything after the first four columns (privileges) is not taken."""
        return [f"{name} {self.type(kind, marks)}{self.since(version)}" for name, kind, version, marks, *_ in properties]

    def method(self, method):
        _, name, version, parameters, (marks, result, _), _, faults = method
        text = f"  !{name}{self.since(version)} ({', '.join(self.members(parameters))})"
        if result != "void":
            text += f" -> {self.type(result, marks)}"
        if faults:
            text += " ~ " + " ".join(map(self.wire, faults))
        return text

    def typed(self, word, entry_name, base, version):
        return f"{word} {entry_name}" + (f" : {self.wire(base)}" if base else "") + self.since(version)

    def lines(self):
        head = HEAD.format(package=PACKAGE, version=VERSION, oldest=self.versions[0])
        yield from head.splitlines()
        yield "versions " + " ".join(self.versions)
        for wire, version, values in sorted(self.enums.values()):
            yield f"enum {wire}{self.since(version)}"
            yield from (f"  {value}" for value in values)
        for word, fault in (("data", False), ("fault", True)):
            chosen = [entry for vmodl, entry in self.datas.items() if self.is_fault(vmodl) == fault]
            for wire, base, version, properties in sorted(chosen, key=lambda entry: entry[0]):
                yield self.typed(word, wire, base, version)
                yield from (f"  {member}" for member in self.members(properties))
        for wire, base, version, properties, methods in sorted(self.managed.values(), key=lambda entry: entry[0]):
            yield self.typed("managed", wire, base, version)
            yield from (f"  {member}" for member in self.members(properties))
            yield from map(self.method, methods)


def download(directory):
    """The pinned wheel, through pip."""
    wanted = pathlib.Path(directory, "wanted.txt")
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{WHEEL_SHA256}\n")
    run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
         "--require-hashes", "--dest", directory, "--requirement", wanted],
        f"fetching {PACKAGE} {VERSION}",
        "It needs pip (Debian: python3-pip) and PyPI; `--wheel FILE` takes a wheel you already have.",
    )
    return next(pathlib.Path(directory).glob("*.whl"))


def main():
    options = argparse.ArgumentParser(description="Imports the vim25 schema.")
    options.add_argument("--wheel", type=pathlib.Path, help=f"a {PACKAGE} {VERSION} wheel that is already here")
    options = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        wheel = options.wheel or download(directory)
        verified(str(wheel.name), wheel.read_bytes(), WHEEL_SHA256)
        with zipfile.ZipFile(wheel) as archive:
            names = [f"pyVmomi/_typeinfo_{module}.py" for module in MODULES]
            texts = [(name, archive.read(name).decode()) for name in names]
    write(RESULT, list(Schema(texts).lines()))


if __name__ == "__main__":
    guarded(main)
