"""Last of all, when everything has been said: no log has a secret in it. Files with secrets are the owner's alone."""

import json

import runner


def test_no_secret_is_in_any_log(field):
    secrets = {runner.PASSWORD, *field.secrets}
    for name in ("broker", *field.domain.agents):
        for path in field.data(name).rglob("*"):
            if path.suffix == ".keys":
                secrets |= set(path.read_text().split())
                assert path.stat().st_mode & 0o077 == 0, path
            if path.name == "credentials.json":
                secrets |= {value for value in json.loads(path.read_text()).values() if isinstance(value, str)}
                assert path.stat().st_mode & 0o077 == 0, path
    assert len(secrets) > 8
    for name in ("broker", *field.domain.agents):
        log = field.log(name)
        assert log.strip()
        found = [secret[:6] + "…" for secret in secrets if secret and secret in log]
        assert not found, f"{name}'s log has secrets: {found}"
    # What was stored is not the password either.
    for name in ("broker", *field.domain.agents):
        for path in field.data(name).glob("*.redb"):
            assert runner.PASSWORD.encode() not in path.read_bytes(), path
