"""The first owner's password, as it is given when the server is started.

It is set where the owner has none: later it is changed by ALTER ROLE, and what the environment still holds does not undo that.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

import structlog

from streamsql.catalog.access import OWNER
from streamsql.engine.epoch import Engine
from streamsql.engine.roles import change_access
from streamsql.pgwire.scram import SALT_BYTES, matches, read_verifier, verifier_of

log = structlog.get_logger()


def set_password(engine: Engine, password: str | None) -> None:
    """Give the first owner a password, if there is one to give, before the engine starts."""
    if password is None:
        return
    owner = engine.catalog.access.roles[OWNER]
    if owner.verifier is not None:
        known = read_verifier(owner.verifier)
        if known is not None and not matches(password, known):
            log.warning("the first owner has another password already; change it by ALTER ROLE", role=owner.name)
        return
    verifier = read_verifier(password) or verifier_of(password, secrets.token_bytes(SALT_BYTES))
    change_access(engine, lambda catalog: catalog.access.with_role(replace(owner, verifier=str(verifier))))
    log.info("the first owner has a password now", role=owner.name)
