"""The checks check what they say.

    python3 -m unittest tools/check/test_check.py
"""

import re
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import deny  # noqa: E402
import style  # noqa: E402


class Licences(unittest.TestCase):
    allowed = {"MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"}

    def test_expressions(self):
        for expression, met in {
            "MIT": True, "GPL-3.0": False, "MIT OR GPL-3.0": True, "MIT/Apache-2.0": True, "MIT AND GPL-3.0": False,
            "(MIT OR Apache-2.0) AND Unicode-3.0": True, "GPL-3.0 OR (MIT AND GPL-2.0)": False,
            "Apache-2.0 WITH LLVM-exception": True, "MIT WITH LLVM-exception": False,
        }.items():
            self.assertEqual(deny.satisfied(expression, self.allowed), met, expression)


class Style(unittest.TestCase):
    def breaches(self, name: str, line: str) -> list[str]:
        return [pattern for pattern, where, _ in style.RULES if re.search(where, name) and re.search(pattern, line)]

    def test_what_is_found(self):
        for name, line in (
            ("a.rs", "// TO" + "DO: later"), ("a.rs", "fn handle_request(x: u8) {"), ("a.rs", "#[ignore]"),
            ("a.py", "@pytest.mark.skip"), ("a.sh", "false || true"), ("a.md", "see /" + "work/x"), ("a.rs", "let x = 1; "),
        ):
            self.assertTrue(self.breaches(name, line), line)

    def test_what_is_left_alone(self):
        for name, line in (
            ("a.rs", "let handle = spawn();"), ("a.sh", 'cp "$work"/root/boot/vmlinuz x'), ("a.rs", "if a || truthy {"),
            ("a.md", "a line that ends with two spaces  "), ("a.rs", "fn processed(&self) {"),
        ):
            self.assertEqual(self.breaches(name, line), [], line)


if __name__ == "__main__":
    unittest.main()
