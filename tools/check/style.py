#!/usr/bin/env python3
"""The house rules that a pattern can see. Prints every breach with file and line; exit 1 if there is one.

    python3 tools/check/style.py
"""

import re
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
MAX_LINES = 600
# Written by tools from pinned sources, or by package managers.
GENERATED = re.compile(r"(^|/)(Cargo\.lock|go\.sum|LICENSE)$|/schema/|/testdata/|/cases/|\.golden$|(^|/)golden/|/corpus/")
CODE = {".rs", ".py", ".sh", ".go", ".toml", ".proto", ".mk", ".md", ".yml", ""}
# These name what is banned.
SELVES = {"tools/check/style.py", "tools/check/test_check.py"}

# (what, which files, what to do instead)
RULES = [
    (r"\b(TODO|FIXME|XXX|HACK)\b", r".", "finish it, or say what the limit is"),
    (r"\b(todo|unimplemented)!\s*\(", r"\.rs$", "answer with the native not-supported fault"),
    (r"allow\((clippy::)?dead_code", r"\.rs$", "remove what nothing uses"),
    (r"#\[ignore", r"\.rs$", "a test runs or does not exist"),
    (r"pytest\.(mark\.)?(skip|xfail)|unittest\.skip", r"\.py$", "a missing client is a failure with a message"),
    (r"\|\|\s*true\b", r"(\.sh|\.mk|Makefile|run)$", "let it fail, or say which failure is expected"),
    (r"\bfn\s+(handle_\w+|(process|convert|transform)(_\w+)?)\s*[(<]", r"\.rs$", "use the house words: lift, lower, serve, answer, perform, read"),
    (r"\bstruct\s+\w*(Handler|Processor|Converter|Transformer)\b", r"\.rs$", "use the house words"),
    (r"(?<![\w.\"$/}])(/w[o]rk/|/ro[o]t/)", r"\.(rs|py|sh|toml|md|mk|proto|go)$|Makefile$|run$", "no paths of one machine"),
    (r"proxy\.golang\.org|index\.crates\.io|files\.pythonhosted\.org|registry\.npmjs\.org", r".", "no registry hosts"),
    (r"[ \t]+$", r"\.(rs|py|sh|toml|proto|go)$", "no white space at line ends"),
]


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPO, capture_output=True, check=True,
    )
    return [name for name in done.stdout.decode().split("\0") if name]


def main() -> int:
    breaches = []
    seen = 0
    for name in tracked():
        path = REPO / name
        if GENERATED.search(name) or path.suffix not in CODE or not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        seen += 1
        if path.name == "mod.rs":
            breaches.append(f"{name}: use {path.parent.name}.rs beside {path.parent.name}/, not mod.rs")
        if len(lines) > MAX_LINES and path.suffix != ".md":
            breaches.append(f"{name}: {len(lines)} lines; the cap is {MAX_LINES}: split it")
        if name in SELVES:
            continue
        for pattern, where, instead in RULES:
            if not re.search(where, name):
                continue
            for number, line in enumerate(lines, 1):
                if found := re.search(pattern, line):
                    breaches.append(f"{name}:{number}: '{found.group(0).strip() or 'white space'}': {instead}")
    for breach in breaches:
        print(breach, file=sys.stderr)
    print(f"style: {seen} files, {len(breaches)} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
