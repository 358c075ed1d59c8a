#!/usr/bin/env python3
"""Enforces deny.toml over `cargo metadata`. Prints every breach; exit 1 if there is one.

    python3 tools/check/deny.py
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def satisfied(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression (AND, OR, WITH, parentheses, the old `/`) is met by `allowed`."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def peek() -> str | None:
        return tokens[position] if position < len(tokens) else None

    def take() -> str:
        nonlocal position
        position += 1
        return tokens[position - 1]

    def either() -> bool:
        met = both()
        while peek() == "OR":
            take()
            other = both()
            met = met or other
        return met

    def both() -> bool:
        met = one()
        while peek() == "AND":
            take()
            other = one()
            met = met and other
        return met

    def one() -> bool:
        name = take()
        if name == "(":
            met = either()
            take()
            return met
        if peek() == "WITH":
            take()
            name = f"{name} WITH {take()}"
        return name in allowed

    return either()


def main() -> int:
    rules = tomllib.loads((REPO / "deny.toml").read_text())
    done = subprocess.run(["cargo", "metadata", "--format-version", "1", "--locked"], cwd=REPO, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"deny: cargo metadata: {done.stderr.strip()}", file=sys.stderr)
        return 1
    metadata = json.loads(done.stdout)
    allowed = set(rules["licenses"]["allow"])
    breaches = []
    named = set()
    for package in metadata["packages"]:
        label = f"{package['name']} {package['version']}"
        if package["name"] in rules["bans"]:
            breaches.append(f"{label} is banned: {rules['bans'][package['name']]}")
        if package["source"] is None:
            named |= {dependency["name"] for dependency in package["dependencies"] if dependency.get("source")}
        elif package["source"] not in rules["sources"]["allow"]:
            breaches.append(f"{label} comes from {package['source']}, which deny.toml does not allow")
        if not package["license"]:
            breaches.append(f"{label} names no licence")
        elif not satisfied(package["license"], allowed):
            breaches.append(f"{label}: licence '{package['license']}' is not allowed by deny.toml")
    for name in sorted(named - set(rules["reasons"])):
        breaches.append(f"{name} has no reason in deny.toml: add one under [reasons]")
    for name in sorted(set(rules["reasons"]) - named):
        breaches.append(f"deny.toml gives a reason for {name}, which no crate of ours names any more")
    for breach in breaches:
        print(breach, file=sys.stderr)
    print(f"deny: {len(metadata['packages'])} crates, {len(breaches)} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
