"""Names of libvirt's domain documents, from the RelaxNG schema that libvirt installs.

    python3 tools/gen/domain_names.py /usr/share/libvirt/schemas/domain.rng > mappings/libvirt/domain.names

One line an element: its name, then the attributes and the elements that it may hold. Elements of one name and several shapes share a line.
"""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

RNG = "{http://relaxng.org/ns/structure/1.0}"


def load(path, defines, starts, seen):
    """Collects the definitions of a schema and of those that it includes."""
    if path in seen:
        return
    seen.add(path)
    for item in ET.parse(path).getroot().iter():
        if item.tag == RNG + "include":
            load(path.parent / item.get("href"), defines, starts, seen)
        elif item.tag == RNG + "define":
            defines.setdefault(item.get("name"), []).append(item)
        elif item.tag == RNG + "start":
            starts.append(item)


def names_of(item):
    """The names that an element or attribute pattern gives, and the patterns behind them."""
    rest = list(item)
    if item.get("name"):
        return [item.get("name")], rest
    head = rest[0]
    return [name.text.strip() for name in head.iter(RNG + "name")], rest[1:]


def inside(patterns, defines, seen):
    """The elements and attributes directly under patterns."""
    for pattern in patterns:
        if pattern.tag in (RNG + "element", RNG + "attribute"):
            yield pattern
        elif pattern.tag == RNG + "ref":
            name = pattern.get("name")
            if name not in seen:
                seen.add(name)
                for define in defines.get(name, []):
                    yield from inside(define, defines, seen)
        else:
            yield from inside(pattern, defines, seen)


def collect(pattern, defines, out, done):
    """Adds an element and everything under it."""
    if id(pattern) in done:
        return
    done.add(id(pattern))
    names, rest = names_of(pattern)
    content = list(inside(rest, defines, set()))
    for name in names:
        held = out.setdefault(name, set())
        for item in content:
            mark = "@" if item.tag == RNG + "attribute" else ""
            held.update(mark + inner for inner in names_of(item)[0])
    for item in content:
        if item.tag == RNG + "element":
            collect(item, defines, out, done)


def lines(schema):
    """The file's lines, from the path of `domain.rng`."""
    defines, starts, out = {}, [], {}
    load(schema, defines, starts, set())
    for item in inside([start for start in starts if start.find(".//*[@name='domain']") is not None], defines, set()):
        collect(item, defines, out, set())
    yield "# Names of libvirt's domain documents, from its RelaxNG schema. Written by tools/gen/domain_names.py; not edited by hand."
    for name in sorted(out):
        yield f"{name}: {' '.join(sorted(out[name]))}".rstrip()


if __name__ == "__main__":
    print("\n".join(lines(Path(sys.argv[1]))))
