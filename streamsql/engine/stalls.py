"""Which views get nothing new because one that they read, or one below that, has given up.

base      failed: invalid input syntax for type integer: "x"
above     stalled: materialized view "base" has failed: invalid input syntax for type integer: "x"
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def stalls(queries: Iterable[tuple[str, Sequence[str], str | None]]) -> dict[str, str]:
    """Say of each query that has not failed itself why it is stalled, if it is; they are given as (name, sources, error)."""
    known = {name: (sources, error) for name, sources, error in queries}
    causes: dict[str, str | None] = {}

    def cause(name: str) -> str | None:
        """Say what keeps those that read this query from getting anything new."""
        if name not in causes:
            causes[name] = None
            sources, error = known.get(name, ((), None))
            if error is not None:
                causes[name] = f'materialized view "{name}" has failed: {error}'
            else:
                causes[name] = next((c for c in map(cause, sources) if c is not None), None)
        return causes[name]

    found = {name: cause(name) for name, (_, error) in known.items() if error is None}
    return {name: why for name, why in found.items() if why is not None}
