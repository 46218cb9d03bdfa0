r"""JSON: one object a line (NDJSON), or an array of objects, or objects one after the other.

Records are cut by numpy, and read by DuckDB: `from_json` with every value as text, then `casts`. Arrow's own reader is not
used: it ends the process on a line that holds `null`, and reads records that a line end breaks (docs/decisions/0017).

A field is found by its keys (`Field.path`; a key may be of any text). What a record has besides is left; what it has not, or
has as null, is NULL. Numbers may come as strings and the other way round. A number of more digits than a float holds keeps all
of them: such numbers are turned into strings before DuckDB's parser sees them. A json column keeps the value as compact text.
Of a key that comes twice the first counts.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.formats import casts, few_json, flat_json
from streamsql.formats.casts import FLOATS, Read, is_nested, quote, text_literal
from streamsql.formats.format import NOTHING_REJECTED, BlockDecoder, Decoded, Field, joined, rejected
from streamsql.formats.json_values import cut_values, last_value_end
from streamsql.formats.plain_json import plain_objects
from streamsql.formats.records import BYTE_ORDER_MARK, Positions, Records, lines_of, not_utf8

LAYOUTS = ("lines", "values")
_SPACE = b" \t\r\n"
# types whose text is JSON already
_BARE = casts.INTEGERS | {"BOOLEAN", "JSON"}
# What stands before a number that was made a string: nothing that a client could have sent.
_MARK = f"number-{secrets.token_hex(12)}-"
# A string, or a number of 16 characters or more: the first group keeps strings from being searched for numbers.
_LONG = r'("(?:[^"\\]|\\.)*")|(-?[0-9][0-9.eE+-]{15,})'
_IN_NUMBER = np.zeros(256, np.bool_)
_IN_NUMBER[np.frombuffer(b"0123456789.", np.uint8)] = True
_FLAT_WAITS_MAX = 64
_MAYBE_LONG = "[0-9][0-9.]{15}"


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """JSON for these fields. `layout` is ``lines``, or ``values`` for arrays and objects that lines may break.

    `times` is the unit of times that are numbers: one of `casts.TIME_UNITS`.
    """

    fields: tuple[Field, ...]
    layout: str = "lines"
    times: str = "auto"
    record_bytes_max: int = 64 << 20

    def __post_init__(self) -> None:
        assert self.layout in LAYOUTS, self.layout
        assert self.times in casts.TIME_UNITS, self.times

    def decoder(self) -> JsonDecoder:
        return JsonDecoder(self.record_bytes_max, format=self)

    def decode(self, data: bytes) -> Decoded:
        decoder = self.decoder()
        return joined(decoder.feed(data) + decoder.finish(), casts.empty_rows(self.fields))

    def encode(self, table: pa.Table) -> bytes:
        """Write rows, one object a line, or as an array of them."""
        lines = objects(table, self.fields)
        if self.layout == "lines":
            return b"".join([*_lines(lines)])
        return b"[" + b",\n".join(lines.cast(pa.large_binary()).to_pylist()) + b"]\n"

    def read(self, records: Records, *, quick: bool) -> tuple[pa.Table, pa.Array, bool]:
        """Read records; give their fields, for each what is wrong with it, or null, and whether to be quick again."""
        text = records.text()
        exact = _keeps_digits(self.fields) and _holds_long_numbers(records.data, text)
        if exact:
            text = _numbers_marked(text)
        objects = records.first_bytes() == ord("{")
        if not objects.all():
            objects |= np.asarray(pc.starts_with(pc.utf8_ltrim(text, characters=" \t\r\n"), "{"))
        structure, reads = _reads(self.fields, self.times, marked=exact)
        given = pa.table({"__text": text, "__object": pa.array(objects)})
        if quick and objects.all():
            plain = f"(SELECT __text, from_json(__text, {text_literal(structure)}) AS v FROM __records)"
            reading = casts.Reading(self.fields, reads, b"\\u0000" in records.data)
            try:
                rows, reasons = reading.run(plain, given)
                return rows.rename_columns([f.name for f in self.fields]), reasons, reading.quick
            except duckdb.Error:
                pass  # one of them at least is not valid: to ask each of them costs another parse
        # the parsed value is one column, so that DuckDB parses a record once more, and no more
        value = f"CASE WHEN __object AND json_valid(__text) THEN from_json(__text, {text_literal(structure)}) END"
        before = (("NOT json_valid(__text)", "'invalid JSON'"), ("NOT __object", "'not a JSON object'"))
        reading = casts.Reading(self.fields, reads, b"\\u0000" in records.data, before, quick)
        rows, reasons = reading.run(f"(SELECT __text, __object, {value} AS v FROM __records)", given)
        return rows.rename_columns([f.name for f in self.fields]), reasons, reading.quick


@dataclass(slots=True)
class JsonDecoder(BlockDecoder):
    """Reads one sequence of JSON records."""

    format: JsonFormat = field(kw_only=True)
    quick: bool = True
    few: bool = field(init=False)
    flat: bool = field(init=False)
    # so many blocks more are not tried to be read as records that are alike
    flat_waits: int = 0
    flat_waited: int = 0
    # of each row that was read last, where its record begins
    positions: Positions = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        self.few = few_json.reads(self.format.fields)
        self.flat = flat_json.reads(self.format.fields)

    def last_end(self, data: bytes) -> int:
        if self.format.layout == "lines":
            return data.rfind(b"\n") + 1
        return last_value_end(data)

    def read(self, block: bytes, start: int) -> Decoded:
        if start == 0 and block.startswith(BYTE_ORDER_MARK):
            block = b"   " + block[3:]  # so that positions stay
        return self.read_records(lines_of(block) if self.format.layout == "lines" else cut_values(block), start)

    def read_records(self, records: Records, start: int) -> Decoded:
        """Read records that have been cut already; what is but white space is none."""
        if 0 < len(records) <= few_json.RECORDS_MAX and self.few:
            few = few_json.plain_rows(records, self.format.fields, casts.empty_rows(self.format.fields).schema)
            if few is not None:
                self.positions = records.starts + start
                return Decoded(few, NOTHING_REJECTED)
        if len(records) > few_json.RECORDS_MAX and self.flat:
            self.flat_waits -= 1
            found = self._flat(records, start) if self.flat_waits < 0 else None
            if found is not None:
                return found
        return self._parsed(records, start)

    def _flat(self, records: Records, start: int) -> Decoded | None:
        """Read what is plainly written alike, and let the rest be parsed; None where that is too much."""
        if not_utf8(records) is not None:
            return None
        schema = casts.empty_rows(self.format.fields).schema
        found = flat_json.plain_rows(records, self.format.fields, schema)
        if found is None:
            # asked again later, and ever more seldom
            self.flat_waits = self.flat_waited = min(2 * self.flat_waited + 1, _FLAT_WAITS_MAX)
            return None
        self.flat_waited = 0
        rows, plain = found
        if plain.all():
            self.positions = records.starts + start
            return Decoded(rows, NOTHING_REJECTED)
        rest = self._parsed(records.filter(~plain), start)
        places = np.concatenate((records.starts[plain] + start, self.positions))
        order = np.argsort(places, kind="stable")
        self.positions = places[order]
        return Decoded(pa.concat_tables([rows, rest.rows]).take(pa.array(order)), rest.rejected)

    def _parsed(self, records: Records, start: int) -> Decoded:
        parts: list[pa.Table] = []
        bad = not_utf8(records)
        if bad is not None:
            parts.append(_set_aside(records.filter(bad), start, ["invalid UTF-8"] * int(bad.sum())))
            records = records.filter(~bad)
        rows = casts.empty_rows(self.format.fields)
        self.positions = records.starts + start
        if len(records):
            rows, reasons, self.quick = self.format.read(records, quick=self.quick)
            if reasons.null_count < len(reasons):
                wrong = np.asarray(reasons.is_valid())
                parts.append(_wrong(records.filter(wrong), start, reasons.drop_null().to_pylist()))
                rows = rows.filter(pa.array(~wrong))
                self.positions = self.positions[~wrong]
        return Decoded(rows, pa.concat_tables([*parts, NOTHING_REJECTED]).sort_by("position"))


def _wrong(records: Records, start: int, reasons: list[str]) -> pa.Table:
    """Set records aside, but for lines of nothing but white space, which are no records."""
    solid = [bool(records.bytes_of(i).strip(_SPACE)) for i in range(len(records))]
    return _set_aside(
        records.filter(np.array(solid, np.bool_)), start, [r for r, kept in zip(reasons, solid, strict=True) if kept]
    )


def _set_aside(records: Records, start: int, reasons: list[str]) -> pa.Table:
    return rejected((records.starts + start).tolist(), reasons, [records.bytes_of(i) for i in range(len(records))])


def _keeps_digits(fields: Sequence[Field]) -> bool:
    """Tell whether any of these types can hold more digits than a float."""
    exact = {"JSON", "VARCHAR", "HUGEINT", "UHUGEINT"}
    return any("DECIMAL" in f.type or f.type in exact or is_nested(f.type) for f in fields)


def _holds_long_numbers(data: bytes, text: pa.Array) -> bool:
    """Tell whether so many characters of a number follow each other anywhere.

    Sixteen that do so cover four in a row of every fourth place: where no four such places, with what lies between them, are of
    numbers, the costly search is spared.
    """
    octets = np.frombuffer(data, np.uint8)
    places = _IN_NUMBER[octets[: len(octets) // 4 * 4 : 4]]
    found = np.flatnonzero(places[:-3] & places[1:-2] & places[2:-1] & places[3:]) * 4
    for step in range(1, 12):
        if not len(found):
            return False
        found = found[_IN_NUMBER[octets[found + step]]]
    return bool(len(found)) and bool(pc.any(pc.match_substring_regex(text, _MAYBE_LONG)).as_py())


def _numbers_marked(text: pa.Array) -> pa.Array:
    """Turn long numbers into strings that begin with the mark; strings stay as they are."""
    # control characters cannot stand in valid JSON: behind each match they show which group matched
    valid = casts.query("SELECT json_valid(t) AS v FROM __records", {"__records": pa.table({"t": text})}).column("v")
    parted = pc.replace_substring_regex(text, _LONG, "\\1\x01\\2\x02")
    parted = pc.replace_substring(parted, "\x01\x02", "")
    marked = pc.replace_substring(pc.replace_substring(parted, "\x01", f'"{_MARK}'), "\x02", '"')
    return pc.if_else(valid.combine_chunks(), marked, text)


def _unmarked(value: str) -> str:
    """Give the SQL that takes the mark off a value's text, and off numbers inside of JSON."""
    mark = text_literal(_MARK)
    return f"replace({value}, {mark}, '')"


def _unmarked_json(value: str) -> str:
    return f"regexp_replace(CAST({value} AS VARCHAR), '\"{_MARK}([^\"]*)\"', '\\1', 'g')"


def _reads(fields: Sequence[Field], times: str, *, marked: bool) -> tuple[str, list[Read]]:
    """Give the structure that DuckDB is to parse, and how each field is read from the struct `v` of that structure.

    Struct members have names of ours where JSON's keys differ in case only, so the structure is a tree of keys as they are and
    fields with a key that a sibling has in another case are refused by `check_paths` before.
    """
    tree: dict[str, object] = {}
    for wanted in fields:
        node = tree
        for key in wanted.keys[:-1]:
            inner = node.setdefault(key, {})
            if not isinstance(inner, dict):  # the whole of it is wanted as well: it is parsed as JSON and read by path
                break
            node = inner
        else:
            last = wanted.keys[-1]
            kind = "JSON" if wanted.type == "JSON" or is_nested(wanted.type) else "VARCHAR"
            if isinstance(node.get(last), dict) or node.get(last, kind) != kind:
                kind = "JSON"
            node[last] = kind
    reads = []
    for wanted in fields:
        source = _source(tree, wanted)
        if wanted.type == "JSON" or is_nested(wanted.type):
            text = _unmarked_json(source) if marked else f"CAST({source} AS VARCHAR)"
            text = f"nullif({text}, 'null')"  # below the top DuckDB gives JSON's null as a value
            value = text if wanted.type == "JSON" else f"TRY(CAST(CAST({text} AS JSON) AS {wanted.type}))"
            reads.append(Read(text, value, value))
            continue
        if marked:
            source = _unmarked_json(source) if wanted.type == "VARCHAR" else _unmarked(source)
            source = _unmarked(source) if wanted.type == "VARCHAR" else source
        reads.append(casts.text_read(source, wanted, times))
    return json.dumps(tree), reads


def _source(tree: dict[str, object], field: Field) -> str:
    """Give the SQL of a field's text within `v`; what lies below a value that is kept whole is asked for by its path."""
    found, node = "v", tree
    for depth, key in enumerate(field.keys):
        inner = node[key]
        found = f"{found}.{quote(key)}"
        if isinstance(inner, dict):
            node = inner
            continue
        rest = field.keys[depth + 1 :]
        if rest:
            pointer = "".join("/" + k.replace("~", "~0").replace("/", "~1") for k in rest)
            ask = "json_extract" if field.type == "JSON" or is_nested(field.type) else "json_extract_string"
            return f"{ask}({found}, {text_literal(pointer)})"
        if inner == "JSON" and not (field.type == "JSON" or is_nested(field.type)):
            return f"json_extract_string({found}, '$')"
    return found


# ---- writing ----


def objects(table: pa.Table, fields: Sequence[Field]) -> pa.Array:
    """Write each row as a JSON object; NULL values are null. `table` has a column a field, by position."""
    if not table.num_rows:
        return pa.array([], pa.large_string())
    plain = plain_objects(table, fields)
    if plain is not None:
        return plain
    named = table.rename_columns([f"c{i}" for i in range(table.num_columns)])
    # put together as text: as JSON values the numbers in them would be read, and lose digits
    items = [f"{text_literal(json.dumps(f.name) + ':')} || {_written(f'c{i}', f.type)}" for i, f in enumerate(fields)]
    line = " || ',' || ".join(items)
    made = casts.query(f"SELECT '{{' || {line} || '}}' AS line FROM __rows", {"__rows": named})
    return made.column("line").combine_chunks().cast(pa.large_string())


def _written(value: str, duckdb_type: str) -> str:
    """Give the SQL of a value as JSON text; NULL is null."""
    text = casts.to_text(value, duckdb_type)
    if duckdb_type in FLOATS:
        text = f"CASE WHEN isfinite({value}) THEN {text} ELSE '\"' || {text} || '\"' END"
    elif duckdb_type in casts.TIMES:
        text = f"'\"' || {text} || '\"'"
    elif not (duckdb_type in _BARE or duckdb_type.startswith("DECIMAL(") or is_nested(duckdb_type)):
        text = f"CAST(to_json({text}) AS VARCHAR)"
    return f"coalesce({text}, 'null')"


def _lines(lines: pa.Array) -> list[memoryview]:
    if not len(lines):
        return []
    ended = pc.binary_join_element_wise(lines, pa.scalar("\n", pa.large_string()), pa.scalar("", pa.large_string()))
    _, offsets, values = ended.buffers()
    ends = np.frombuffer(offsets, np.int64)
    return [memoryview(values)[int(ends[ended.offset]) : int(ends[ended.offset + len(ended)])]]
