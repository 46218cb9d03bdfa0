"""A call of a window function: its arguments by name, and what they are read as."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue, SQLSyntaxError, UndefinedFunction
from streamsql.base.limits import Limits
from streamsql.plan.nodes import Window, WindowKind
from streamsql.plan.rulers import MONTH_LENGTH_US, Ruler, zoned
from streamsql.sql.durations import DAY_US, duration_of, months_of

_MONTH_DAYS_MIN = 28


@dataclass(slots=True)
class Call:
    """A call in GROUP BY. `time_type` gives the DuckDB type of an expression over the source."""

    node: exp.Anonymous
    time_type: Callable[[exp.Expr], str]
    limits: Limits
    position: int | None
    arguments: dict[str, exp.Expression] = field(default_factory=dict)
    usage: str = ""

    @property
    def name(self) -> str:
        return str(self.node.this).lower()

    def check(self, names: tuple[str, ...], least: int, usage: str, options: tuple[str, ...] = ()) -> None:
        """Sort the arguments: `names` by place or by name, the first `least` of them are needed; `options` by name only.

        Raises UndefinedFunction, SQLSyntaxError, FeatureNotSupported.
        """
        self.usage = usage
        by_place = 0
        for node in self.node.expressions:
            name = _argument_name(node)
            if name is None:
                if len(self.arguments) > by_place:
                    raise SQLSyntaxError("positional argument cannot follow named argument", position=self.position)
                name = names[by_place] if by_place < len(names) else f"argument {by_place + 1}"
                by_place += 1
                self.arguments[name] = node
                continue
            if name not in (*names, *options):
                raise FeatureNotSupported(f'{self.name}() has no argument "{name}"', hint=usage, position=self.position)
            if name in self.arguments:
                raise SQLSyntaxError(f'argument name "{name}" used more than once', position=self.position)
            self.arguments[name] = node.expression
        given = len([a for a in self.arguments if a not in options])
        if by_place > len(names) or any(n not in self.arguments for n in names[:least]):
            counts = f"{least}" if least == len(names) else f"{least} or {len(names)}"
            raise UndefinedFunction(
                f"{self.name}() takes {counts} arguments, not {given}", hint=usage, position=self.position
            )

    def has(self, name: str) -> bool:
        return name in self.arguments

    def lengths(self, size: str, step: str) -> tuple[int, int]:
        """Read two lengths, on the ruler: both in months, or neither."""
        months = [months_of(self.arguments[n]) for n in (size, step)]
        if months[0] is None and months[1] is None:
            return self.fixed_length(size), self.fixed_length(step)
        if months[0] is None or months[1] is None:
            raise InvalidParameterValue(
                "months and years cannot be mixed with other lengths in one window",
                hint="say both the size and the step in months or years, or neither",
                position=self.position,
            )
        if min(months[0], months[1]) <= 0:
            raise self._not_positive()
        return months[0] * MONTH_LENGTH_US, months[1] * MONTH_LENGTH_US

    def fixed_length(self, name: str) -> int:
        length = duration_of(self.arguments[name])
        if length <= 0:
            raise self._not_positive()
        return length

    def _not_positive(self) -> InvalidParameterValue:
        return InvalidParameterValue("a window's lengths must be positive", hint=self.usage, position=self.position)

    def ruler(self, size: int, step: int) -> Ruler:
        """Make the ruler from the options, for windows of these lengths."""
        months = months_of(self.arguments["size"]) is not None
        offset = self._offset(months)
        # windows start at multiples of the step alone, or of the size in cumulating windows
        offset = offset if months else offset % (size if self.has("step") else step)
        if "timezone" not in self.arguments:
            return Ruler(offset, months)
        zone = self.arguments["timezone"]
        if not isinstance(zone, exp.Literal) or not zone.is_string:
            raise InvalidParameterValue("timezone must be a constant", hint=_ZONE_HINT, position=self.position)
        try:
            return zoned(zone.this, math.lcm(size, step), offset, months=months)
        except KeyError:
            raise InvalidParameterValue(
                f'time zone "{zone.this}" not recognized', hint=_ZONE_HINT, position=self.position
            ) from None

    def _offset(self, months: bool) -> int:
        if "offset" not in self.arguments:
            return 0
        offset = duration_of(self.arguments["offset"], zero_allowed=True, negative_allowed=True)
        if months and not 0 <= offset < _MONTH_DAYS_MIN * DAY_US:
            raise InvalidParameterValue(
                "the offset of a window of months must be at least zero and less than 28 days",
                hint="count it from the first of the month",
                position=self.position,
            )
        return offset

    def window(self, size: int, slide: int, pane: int, kind: WindowKind, ruler: Ruler) -> Window:
        time = self.arguments["time"]
        column = time.name if isinstance(time, exp.Column) else None
        return Window(time.sql("duckdb"), column, self.time_type(time), size, slide, pane, kind, ruler)


_ZONE_HINT = "name it as in timezone => 'Europe/Berlin'"


def _argument_name(argument: exp.Expr) -> str | None:
    if isinstance(argument, (exp.Kwarg, exp.PropertyEQ)) and isinstance(
        argument.this, (exp.Column, exp.Identifier, exp.Var)
    ):
        return argument.this.name
    return None
