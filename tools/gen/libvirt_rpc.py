#!/usr/bin/env python3
"""Imports libvirt's RPC schema: its XDR descriptions -> mappings/libvirt/schema/remote.schema.

The descriptions (`*_protocol.x`, LGPL-2.1-or-later) come from Debian's libvirt source package through apt, with a sources
list of its own in a temporary directory: the system's apt state is read, never changed. Only facts are taken: names,
numbers, layouts. Typedefs are resolved and constants are numbers in the result.

    libvirt_rpc.py                  downloads the pinned source package
    libvirt_rpc.py --source DIR     uses an unpacked source tree (its files must match the same checksums)
"""

import argparse
import pathlib
import re
import tarfile
import tempfile

import domain_names
from sources import GenError, guarded, run, verified, write

PACKAGE, VERSION, SUITES = "libvirt", "9.0.0-4+deb12u2", {"bookworm", "bookworm-updates", "bookworm-security"}
ARCHIVE, TOP = "libvirt_9.0.0.orig.tar.xz", "libvirt-9.0.0"
RESULT = "mappings/libvirt/schema/remote.schema"
# The RelaxNG schema of domain documents, with the files it includes beside it.
SCHEMAS, DOMAIN_SCHEMA = "src/conf/schemas", "src/conf/schemas/domain.rng"
NAMES = "mappings/libvirt/domain.names"
PROCEDURES = 443

# The files read, with their checksums. The headers give numbers that the descriptions use by name; the protocols are read in this order.
HEADERS = {
    "include/libvirt/libvirt-common.h.in": "8a829be2d7f40178a33843728d2b3f969d1db66db6d0f10881053c90b5c14d47",
    "include/libvirt/libvirt-host.h": "3f0239a464bc2a93b09157b965aa974cfedb4d368828c6df4534ffb390f5d358",
}
PROTOCOLS = {
    "src/rpc/virnetprotocol.x": "e330a104ef46be4aca1c603121c79bc8c8460b40c789c4a6312596743ded7557",
    "src/rpc/virkeepaliveprotocol.x": "aa5cfe80ec7eef091743a9a883f5125428288b48236e59d66b0c79389e30b4ab",
    "src/remote/remote_protocol.x": "7e1377e5acf8cfff38d3b4f93ecc037b6e376ca475c69416ab200db0ec78e85f",
}

# XDR's integers as the schema names them. Everything narrower than 32 bits travels as 32.
INTEGERS = {
    "int": "int",
    "unsigned": "uint",
    "unsigned int": "uint",
    "hyper": "hyper",
    "unsigned hyper": "uhyper",
    "double": "double",
    "bool": "bool",
    "char": "int",
    "short": "int",
    "unsigned char": "uint",
    "unsigned short": "uint",
}

HEAD = """\
# libvirt's remote protocol, as XDR (RFC 4506) with libvirt's additions.
# Made by tools/gen/libvirt_rpc.py from Debian's source package {package} {version}: {files}
# (LGPL-2.1-or-later). Facts only: names, numbers, layouts. Never edited by hand: `make gen`.
#
# One fact a line. Indented lines are the fields of the struct above them, in wire order. A line whose first character is `#` is a comment.
#   program NUMBER VERSION              the program that the `proc` lines belong to
#   const NAME NUMBER                   decimal; the limits, and the values of enums other than the procedures
#   struct NAME                         then `FIELD TYPE`, one a line
#   union NAME switch int: N TYPE | ... a discriminant, then the arm it selects; any other discriminant is an error
#   proc NUMBER NAME ARGS RET [FLAG]    ARGS and RET are structs, `-` is none; RET follows in a reply with status ok
# FLAG: `event` is sent by the server only, as a message, and ARGS is its payload; `readstream` carries a stream from the server to
# the client after the call (a console or channel: both ways), `writestream` the other way.
# TYPE is one of
#   int uint (32 bits), hyper uhyper (64 bits), double, bool (32 bits), all big-endian; an enum is an int
#   string<MAX>, opaque<MAX>            a uint count, the bytes, zero bytes to a multiple of 4; opaque[N] has no count
#   char[N], char<MAX>                  N characters, or a uint count and the characters; each takes 4 bytes
#   NAME                                a struct or union
# and may be followed, left to right, by `?` (optional: a uint 0, or a uint 1 and the value) and `<MAX>` or `[N]` (an array with or
# without a uint count before it). MAX is the most that a count may say.
# A single char or short of the source is written int, an unsigned one uint: so it travels.
"""


def number(text, constants):
    """A constant's value: a literal, another constant's name, or `(A + B)` of these."""
    text = text.strip().removeprefix("(").removesuffix(")")
    total = 0
    for part in text.split("+"):
        part = part.strip()
        if re.fullmatch(r"0[xX][0-9a-fA-F]+|-?\d+", part):
            total += int(part, 0)
        elif part in constants:
            total += constants[part]
        else:
            raise GenError(f"constant {part} is used but not known; name its header in HEADERS")
    return total


def header_constants(text):
    """The few defines and enum values that protocol descriptions borrow from public headers."""
    found = re.findall(r"^#\s*define\s+(VIR_\w+_BUFLEN)\s+(.+?)\s*$", text, re.M)
    found += re.findall(r"^\s+(VIR_TYPED_PARAM_\w+)\s*=\s*(\d+)\s*,", text, re.M)
    return {name: number(value, {}) for name, value in found}


class Protocol:
    """Everything read so far, in declaration order; later files may use the names of earlier ones."""

    def __init__(self):
        self.borrowed, self.constants, self.typedefs, self.enums = {}, {}, {}, set()
        self.structs, self.unions, self.procedures = {}, {}, []

    def known(self):
        return self.borrowed | self.constants

    def read(self, text):
        notes = {}
        for note, name in re.findall(r"/\*\*((?:(?!\*/).)*)\*/\s*(\w+_PROC_\w+)\s*=", text, re.S):
            notes[name] = [stream for stream in ("readstream", "writestream") if f"@{stream}:" in note]
        text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
        text = re.sub(r"^%.*$", "", text, flags=re.M)
        grammar = re.compile(
            r"\s*(?:const\s+(?P<const>\w+)\s*=\s*(?P<value>[^;]+)"
            r"|typedef\s+(?P<typedef>[^;]+)"
            r"|enum\s+(?P<enum>\w+)\s*\{(?P<values>[^}]*)\}"
            r"|struct\s+(?P<struct>\w+)\s*\{(?P<fields>[^}]*)\}"
            r"|union\s+(?P<union>\w+)\s+switch\s*\(\s*int\s+\w+\s*\)\s*\{(?P<arms>[^}]*)\})\s*;"
        )
        at = 0
        while text[at:].strip():
            match = grammar.match(text, at)
            if not match:
                raise GenError(f"protocol description: cannot read `{' '.join(text[at:at + 80].split())}`")
            self.declare(match, notes)
            at = match.end()

    def declare(self, match, notes):
        if match["const"]:
            self.constants[match["const"]] = number(match["value"], self.known())
        elif match["typedef"]:
            name, declared = self.declaration(match["typedef"])
            self.typedefs[name] = declared
        elif match["enum"]:
            self.enums.add(match["enum"])
            for item in filter(None, map(str.strip, match["values"].split(","))):
                name, value = (part.strip() for part in item.split("="))
                if match["enum"] == "remote_procedure":
                    self.procedures.append((int(value), name, notes.get(name, [])))
                else:
                    self.constants[name] = number(value, self.known())
        elif match["struct"]:
            fields = filter(None, map(str.strip, match["fields"].split(";")))
            self.structs[match["struct"]] = [self.declaration(field) for field in fields]
        else:
            arms = re.findall(r"case\s+(\w+)\s*:\s*([^;]+);", match["arms"])
            self.unions[match["union"]] = [(number(case, self.known()), self.declaration(arm)[1]) for case, arm in arms]

    def declaration(self, text):
        """`TYPE [*]NAME [<MAX>|[N]]` as (name, the schema's type)."""
        match = re.fullmatch(r"(.+?)\s*(\*?)\s*\b(\w+)\s*(?:([<\[])\s*(\w+)\s*[>\]])?", " ".join(text.split()))
        if not match:
            raise GenError(f"protocol description: cannot read the declaration `{text.strip()}`")
        base, optional, name, opening, size = match.groups()
        suffix = ""
        if opening:
            suffix = ("<%d>" if opening == "<" else "[%d]") % number(size, self.known())
        if base in ("string", "opaque") or (base == "char" and suffix):
            if not suffix:
                raise GenError(f"protocol description: `{text.strip()}` has no bound")
            resolved = base + suffix
            suffix = ""
        else:
            resolved = self.resolve(base)
        return name, resolved + ("?" if optional else "") + suffix

    def resolve(self, name):
        if name in INTEGERS:
            return INTEGERS[name]
        if name in self.enums:
            return "int"
        if name in self.typedefs:
            return self.typedefs[name]
        if name in self.structs or name in self.unions:
            return name
        raise GenError(f"protocol description: type {name} is used but not declared before")

    def proc(self, entry):
        """One `proc` line, and the structs it uses."""
        value, name, streams = entry
        stem = name.replace("_PROC", "", 1).lower()
        message, args, ret = (f"{stem}_{part}" for part in ("msg", "args", "ret"))
        if message in self.structs:
            return f"proc {value} {name} {message} - event", {message}
        used = [part if part in self.structs else "-" for part in (args, ret)]
        return " ".join([f"proc {value} {name}", *used, *streams]), set(used)

    def lines(self):
        files = " ".join(pathlib.PurePosixPath(path).name for path in PROTOCOLS)
        yield from HEAD.format(package=PACKAGE, version=VERSION, files=files).splitlines()
        yield f"program 0x{self.constants['REMOTE_PROGRAM']:08x} {self.constants['REMOTE_PROTOCOL_VERSION']}"
        for name, value in self.constants.items():
            yield f"const {name} {value}"
        for name, arms in self.unions.items():
            yield f"union {name} switch int: " + " | ".join(f"{case} {arm}" for case, arm in arms)
        for name, fields in self.structs.items():
            yield f"struct {name}"
            yield from (f"  {field} {declared}" for field, declared in fields)
        procedures = [self.proc(entry) for entry in sorted(self.procedures)]
        self.check(set().union(*(used for _, used in procedures)))
        yield from (line for line, _ in procedures)

    def check(self, used):
        """Every procedure is there once, and every call's struct belongs to one."""
        if sorted(value for value, _, _ in self.procedures) != list(range(1, PROCEDURES + 1)):
            raise GenError(f"expected procedures 1 to {PROCEDURES}, found {len(self.procedures)} of them")
        stray = [name for name in self.structs if re.search(r"_(args|ret|msg)$", name) and name not in used]
        if stray:
            raise GenError(f"no procedure uses {', '.join(stray)}")


def deb_src(text, suffix):
    """The same archives as a deb-src list in the one-file format, Debian's own suites only."""
    if suffix == ".list":
        for line in text.splitlines():
            match = re.fullmatch(r"deb\s+(\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)", line.strip())
            if match and match[3] in SUITES:
                yield f"deb-src {match[1] or ''}{match[2]} {match[3]} main"
        return
    for paragraph in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", paragraph, re.M))
        if "deb" in fields.get("Types", "").split():
            key = f"[signed-by={fields['Signed-By']}] " if fields.get("Signed-By", "").startswith("/") else ""
            for suite in SUITES.intersection(fields.get("Suites", "").split()):
                for uri in fields.get("URIs", "").split():
                    yield f"deb-src {key}{uri} {suite} main"


def download(directory):
    """The pinned source package through apt, with state of its own in `directory`; returns the tree it unpacked."""
    here = pathlib.Path(directory)
    system = pathlib.Path("/etc/apt")
    lists = [system / "sources.list", *sorted((system / "sources.list.d").glob("*"))]
    found = [line for path in lists if path.is_file() for line in deb_src(path.read_text(), path.suffix)]
    hint = f"It needs apt on Debian 12; `--source DIR` takes an unpacked {PACKAGE} {VERSION} source tree."
    if not found:
        raise GenError(f"fetching {PACKAGE} {VERSION}: apt's sources name no Debian 12 archive. {hint}")
    (here / "sources.list").write_text("\n".join(sorted(set(found))) + "\n")
    for part in ("parts", "lists/partial", "cache/archives/partial"):
        (here / part).mkdir(parents=True)
    options = [f"Dir::Etc::SourceList={here}/sources.list", f"Dir::Etc::SourceParts={here}/parts",
               f"Dir::State::Lists={here}/lists", f"Dir::Cache={here}/cache", "APT::Sandbox::User=root"]
    apt = ["apt-get", "-q"] + [word for option in options for word in ("-o", option)]
    run([*apt, "update"], "reading the list of source packages", hint, cwd=here)
    run([*apt, "source", "--download-only", f"{PACKAGE}={VERSION}"], f"fetching {PACKAGE} {VERSION}", hint, cwd=here)
    with tarfile.open(here / ARCHIVE) as archive:
        schemas = [name.removeprefix(f"{TOP}/") for name in archive.getnames() if name.startswith(f"{TOP}/{SCHEMAS}/") and name.endswith(".rng")]
        for path in (*HEADERS, *PROTOCOLS, *schemas):
            member = archive.extractfile(f"{TOP}/{path}")
            (here / TOP / path).parent.mkdir(parents=True, exist_ok=True)
            (here / TOP / path).write_bytes(member.read())
    return here / TOP


def main():
    options = argparse.ArgumentParser(description="Imports libvirt's RPC schema and the names of its domain documents.")
    options.add_argument("--source", type=pathlib.Path, help=f"an unpacked {PACKAGE} {VERSION} source tree")
    options = options.parse_args()
    protocol = Protocol()
    with tempfile.TemporaryDirectory() as directory:
        tree = options.source or download(directory)
        texts = {}
        for path, sha256 in (HEADERS | PROTOCOLS).items():
            texts[path] = verified(path, (tree / path).read_bytes(), sha256).decode()
        names = list(domain_names.lines(tree / DOMAIN_SCHEMA))
    for path in HEADERS:
        protocol.borrowed |= header_constants(texts[path])
    for path in PROTOCOLS:
        protocol.read(texts[path])
    write(RESULT, list(protocol.lines()))
    write(NAMES, names)


if __name__ == "__main__":
    guarded(main)
