"""Who a session is: the role that logged in, and the one that it acts as by SET ROLE and SET SESSION AUTHORIZATION.

A name that is no role, let in by a `trust` rule, is the first owner under another name: it is shown by that name wherever the
owner is. Both settings are variables of the session (`server.variables`), so that a transaction that is rolled back undoes
them; here they are checked when they are set, and looked up when they matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from streamsql.base.errors import InsufficientPrivilege, InvalidParameterValue
from streamsql.catalog.access import OWNER, OWNER_NAME, Access
from streamsql.plan.functions import Asker, Settings

ROLE, AUTHORIZATION = "role", "session_authorization"
NOBODY = -1  # the OID of a role that was dropped while somebody acted as it


@dataclass(slots=True)
class Identity:
    """The role that logged in, and what it may become. `access` gives the roles as they are now."""

    name: str
    oid: int
    access: Callable[[], Access]
    process_id: int = 0
    database: str = "streamsql"
    _known: tuple[Access, str, str, Asker] | None = field(default=None, repr=False)

    @property
    def owner(self) -> str:
        """The name by which the first owner is shown to this session."""
        if self.oid == OWNER:
            return self.name
        role = self.access().roles.get(OWNER)
        return OWNER_NAME if role is None else role.name

    def oid_of(self, name: str) -> int | None:
        """Find a role by its name, or by the name that the first owner has in this session."""
        if name == self.name:
            return self.oid
        role = self.access().named(name)
        return None if role is None else role.oid

    def admitted(self, key: str, value: str, settings: Settings) -> str:
        """Give the role that a variable is set to; raises where it may not be."""
        if value.startswith('"') and value.endswith('"') and len(value) > 1:  # as SET keeps a name that needs quotes
            value = value[1:-1].replace('""', '"')
        if key == ROLE and value.lower() == "none":
            return "none"
        oid = self.oid_of(value)
        if oid is None:
            raise InvalidParameterValue(f'role "{value}" does not exist')
        access = self.access()
        if key == ROLE:
            asking = self._session_oid(settings)
            if oid != asking and not access.is_member(asking, oid):
                raise InsufficientPrivilege(f'permission denied to set role "{value}"')
        elif oid != self.oid and not access.is_superuser(self.oid):
            raise InsufficientPrivilege(f'permission denied to set session authorization "{value}"')
        return value

    def _session_oid(self, settings: Settings) -> int:
        name = settings.get(AUTHORIZATION)
        found = self.oid_of(name)
        return NOBODY if found is None else found

    def is_superuser(self, settings: Settings) -> bool:
        return self.access().is_superuser(self.asker(settings).role)

    def asker(self, settings: Settings) -> Asker:
        """Say who asks now."""
        access, role, session = self.access(), settings.get(ROLE), settings.get(AUTHORIZATION)
        known = self._known
        if known is not None and known[0] is access and known[1:3] == (role, session):
            return known[3]
        user = session if role == "none" else role
        oid = self.oid_of(user)
        made = Asker(
            user, self.process_id, self.database, settings, NOBODY if oid is None else oid, session, self.owner
        )
        self._known = (access, role, session, made)
        return made
