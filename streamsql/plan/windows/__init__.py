"""The window functions of GROUP BY: one file a kind, one line here."""

from __future__ import annotations

from streamsql.plan.windows.hopping import bind_window, windows_of_time

__all__ = ["bind_window", "windows_of_time"]
