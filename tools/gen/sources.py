"""What the schema importers share: pinned sources, their checksums, and how a result is written.

A schema in `mappings/*/schema/` is a list of facts read from a published source at one pinned version. Anybody who runs
`make gen` must get the same bytes, so every source file is checked against a SHA-256 written in the importer, and nothing
that differs from run to run (time, path, user) goes into a result.
"""

import hashlib
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


class GenError(Exception):
    """Why a schema could not be made: what was expected, where, and what to do."""


def verified(name, data, sha256):
    """Returns `data` when it has the pinned checksum, else raises."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise GenError(
            f"{name}: expected SHA-256 {sha256}, found {found}; the source is not the pinned version. "
            "Fetch the pinned one, or move the pin in tools/gen and review the schema's diff."
        )
    return data


def run(argv, what, hint, **options):
    """Runs a command, and turns its failure into a GenError that says what was being done and what helps."""
    try:
        return subprocess.run(argv, check=True, capture_output=True, text=True, **options).stdout
    except FileNotFoundError:
        raise GenError(f"{what}: the command `{argv[0]}` is not installed. {hint}") from None
    except subprocess.CalledProcessError as error:
        raise GenError(f"{what}: `{' '.join(map(str, argv))}` failed:\n{error.stderr.strip()}\n{hint}") from None


def write(relative, lines):
    """Writes the lines under the repository root: UTF-8, LF, one final newline, replaced in one step."""
    path = ROOT / relative
    data = ("\n".join(lines) + "\n").encode()
    same = path.exists() and path.read_bytes() == data
    if not same:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        fresh.write_bytes(data)
        os.replace(fresh, path)
    print(f"{relative}: {'unchanged' if same else 'written'}, {len(lines)} lines, {len(data)} bytes")


def guarded(main):
    """Runs an importer's main, and prints a GenError as a message instead of a traceback."""
    try:
        main()
    except GenError as error:
        sys.exit(f"error: {error}")
