"""Those who read sources and deliver to sinks are told of what concerns them: one place where they ask for it."""

from __future__ import annotations

from collections.abc import Callable

from streamsql.catalog.objects import Catalog
from streamsql.engine.handed import Handing


class Flows:
    """Callbacks, called on the engine's thread after a commit. Readers and deliverers add theirs when they start."""

    def __init__(self, catalog: Catalog) -> None:
        self._told = catalog
        self._on_change: list[Callable[[], None]] = []
        self._on_outgoing: list[Callable[[], None]] = []
        self.handing = Handing()
        self.altered = False  # something was paused, resumed or let go, which the catalog does not show

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back when the catalog has changed, or a stream or sink was altered."""
        self._on_change.append(callback)

    def on_outgoing(self, callback: Callable[[], None]) -> None:
        """Call back when an epoch has put changes into an outbox."""
        self._on_outgoing.append(callback)

    def tell(self, catalog: Catalog) -> None:
        """Tell of changes since the last call, if there are any."""
        if catalog is not self._told or self.altered:
            self._told, self.altered = catalog, False
            for callback in self._on_change:
                callback()

    def outgoing(self) -> None:
        """Tell that there is something to deliver, and hand it over to those who keep up."""
        self.handing.commit()
        for callback in self._on_outgoing:
            callback()
