"""LISTEN and NOTIFY: channels, and what waits for those who listen.

As in PostgreSQL a notification is sent when its transaction commits, once for each channel and payload of a transaction; LISTEN
and UNLISTEN take effect then, too; and a session is told between its own transactions. A channel that has the name of a view is
also told when the view has changed: the payload is the epoch, and one who is slow hears of the last epoch only.

A session that does not read, or stays in a transaction, keeps up to `notifications_max` waiting. Then it is ended: to lose some
of them in silence would be worse, and nobody else may wait for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from streamsql.base.errors import InvalidParameterValue, SubscriptionTooSlow
from streamsql.base.limits import Limits

PAYLOAD_BYTES_MAX = 7_999  # PostgreSQL's own bounds
CHANNEL_BYTES_MAX = 63
# who a change of a view comes from: no session
SERVER_PROCESS_ID = 0


@dataclass(frozen=True, slots=True)
class ListenTo:
    """LISTEN; or UNLISTEN, of one channel or (None) of all."""

    channel: str | None
    begins: bool = True


@dataclass(frozen=True, slots=True)
class Notification:
    """NOTIFY, and what its listeners are told."""

    channel: str
    payload: str = ""
    process_id: int = SERVER_PROCESS_ID


def checked(channel: str, payload: str, process_id: int) -> Notification:
    """Make a notification; raises InvalidParameterValue for a channel or payload that cannot be."""
    if not channel:
        raise InvalidParameterValue("channel name cannot be empty")
    if len(channel.encode()) > CHANNEL_BYTES_MAX:
        raise InvalidParameterValue("channel name too long")
    if len(payload.encode()) > PAYLOAD_BYTES_MAX:
        raise InvalidParameterValue("payload string too long")
    return Notification(channel, payload, process_id)


class Channels:
    """Who listens to what, of all sessions; used from the event loop's thread."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Listener]] = {}

    def __contains__(self, channel: object) -> bool:
        """Tell whether anybody listens. For any thread."""
        return channel in self._listeners

    def add(self, listener: Listener, channel: str) -> None:
        self._listeners.setdefault(channel, set()).add(listener)

    def remove(self, listener: Listener, channel: str) -> None:
        left = self._listeners.get(channel)
        if left is not None:
            left.discard(listener)
            if not left:
                del self._listeners[channel]

    def notify(self, told: Notification) -> None:
        """Tell all who listen."""
        for listener in list(self._listeners.get(told.channel, ())):
            listener.push(told)

    def view_changed(self, name: str, epoch: int) -> None:
        """Tell those who listen to a view's name."""
        for listener in list(self._listeners.get(name, ())):
            listener.push_view(name, epoch)


@dataclass(eq=False, slots=True)
class Listener:
    """One session's side: the channels that it listens to, and what waits to be told.

    `may_read` tells whether the session may hear of a view.
    """

    limits: Limits = field(default_factory=Limits)
    channels: Channels = field(default_factory=Channels)
    wake: Callable[[], None] = lambda: None
    may_read: Callable[[str], bool] = lambda _: True
    listens_to: list[str] = field(default_factory=list)
    _waiting: deque[Notification] = field(default_factory=deque)
    _views: dict[str, int] = field(default_factory=dict)
    _overrun: bool = False

    @property
    def has_news(self) -> bool:
        """Tell whether there is something to be told."""
        return bool(self._waiting or self._views or self._overrun)

    def committed(self, actions: Sequence[ListenTo | Notification]) -> None:
        """Do what a transaction asked for, in order."""
        for action in actions:
            if isinstance(action, Notification):
                self.channels.notify(action)
            elif action.begins and action.channel is not None:
                if action.channel not in self.listens_to:
                    self.listens_to.append(action.channel)
                    self.channels.add(self, action.channel)
            else:
                self.leave(action.channel)

    def leave(self, channel: str | None) -> None:
        """Stop listening to a channel, or to all."""
        for left in [c for c in self.listens_to if channel in (None, c)]:
            self.listens_to.remove(left)
            self.channels.remove(self, left)
            self._views.pop(left, None)

    def push(self, told: Notification) -> None:
        if len(self._waiting) >= self.limits.notifications_max:
            self._waiting.clear()
            self._overrun = True
            self.leave(None)
        else:
            self._waiting.append(told)
        self.wake()

    def push_view(self, name: str, epoch: int) -> None:
        if self.may_read(name):
            self._views[name] = epoch
            self.wake()

    def take(self) -> list[Notification]:
        """Take what is to be told. Raises SubscriptionTooSlow, which ends the session, where some of it is lost."""
        if self._overrun:
            raise SubscriptionTooSlow(
                "terminating connection because it did not read its notifications",
                detail=f"notifications_max = {self.limits.notifications_max}",
                hint="read them, end transactions soon, or start the server with --limit notifications_max=N",
                severity="FATAL",
            )
        found = [*self._waiting, *(Notification(name, str(epoch)) for name, epoch in self._views.items())]
        self._waiting.clear()
        self._views.clear()
        return found
