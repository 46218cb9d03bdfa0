"""Subscribers are told of a change some at a time, so that others have their turn."""

from __future__ import annotations

import asyncio

from streamsql.server.known import RUNG_AT_ONCE_MAX, Bell


def test_who_comes_after_many_subscribers_is_served_before_the_last_of_them():
    async def told() -> tuple[list[int], list[bool]]:
        bell, loop = Bell(), asyncio.get_running_loop()
        events = [asyncio.Event() for _ in range(2 * RUNG_AT_ONCE_MAX + 1)]
        for ring in [bell.for_event(event) for event in events]:
            ring()
        seen: list[int] = []
        loop.call_soon(lambda: seen.append(sum(event.is_set() for event in events)))
        await asyncio.gather(*(event.wait() for event in events))
        bell.for_event(events[0])()  # the bell is heard again
        events[0].clear()
        await events[0].wait()
        return seen, [event.is_set() for event in events]

    seen, all_set = asyncio.run(told())
    assert seen == [RUNG_AT_ONCE_MAX]
    assert all(all_set)
