"""A query's tree read as blocks: what each SELECT reads, joins, groups and gives, with every column traced to what gives it.

The tree is DuckDB's text of the query (`plan.adhoc`) parsed again, with common table expressions written in where they are
read. A column in a *canonical* expression has a token of its FROM item in place of a name, so that equal expressions are
equal trees wherever they stand. What is not understood raises `NotKeyed`: the query is then run again whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlglot import exp


class NotKeyed(Exception):  # noqa: N818  # no error: the message is why a query is run again whole
    """The query, or a part of it, has no key that tells what an epoch can change."""


@dataclass(eq=False, slots=True)
class Scan:
    """One place where a query reads a relation of the catalog."""

    number: int
    relation: str
    columns: tuple[str, ...]
    node: exp.Table
    token: str

    @property
    def alias(self) -> str:
        return self.node.alias_or_name


@dataclass(eq=False, slots=True)
class Item:
    """An item of FROM: a scan, a query, or a function's rows (neither). `kind` is how it is joined to those before it.

    `pairs` are the equalities that join it: (an expression over items before, one over this item, whether NULLs match).
    `conditions` are all parts of its ON that no subquery is in. Columns without a name are None.
    """

    token: str
    alias: str
    columns: tuple[str | None, ...] | None
    kind: str
    scan: Scan | None = None
    child: Node | None = None
    lateral: bool = False
    pairs: list[tuple[exp.Expr, exp.Expr, bool]] = field(default_factory=list)
    conditions: list[exp.Expr] = field(default_factory=list)
    using: tuple[str, ...] = ()

    @property
    def hidden(self) -> bool:
        """Tell whether what is joined here only filters: SEMI and ANTI."""
        return self.kind in {"semi", "anti"}


@dataclass(eq=False, slots=True)
class Operation:
    """UNION, INTERSECT or EXCEPT."""

    tree: exp.SetOperation
    left: Node
    right: Node
    names: tuple[str | None, ...]

    @property
    def adds(self) -> bool:
        """Tell whether it is UNION ALL."""
        return isinstance(self.tree, exp.Union) and not self.tree.args.get("distinct")


@dataclass(eq=False, slots=True)
class Nested:
    """A subquery in an expression: `outer` is what IN compares with its one column, None otherwise or under NOT."""

    query: Node
    outer: exp.Expr | None


class Block:
    """One SELECT. `outer` is the SELECT that it is a subquery of, whose columns it may name."""

    def __init__(self, tree: exp.Select, outer: Block | None) -> None:
        self.tree = tree
        self.outer = outer
        self.items: list[Item] = []
        self.outputs: list[tuple[str | None, exp.Expr | None]] = []
        self.where: list[exp.Expr] = []
        self.nested: list[Nested] = []
        self.group_keys: list[exp.Expr] | None = None
        self.partitions: list[list[exp.Expr]] = []
        self.distinct_on: list[exp.Expr] | None = None
        self.edges: list[tuple[exp.Expr, exp.Expr]] = []

    @property
    def names(self) -> tuple[str | None, ...]:
        return tuple(name for name, _ in self.outputs)

    @property
    def distinct(self) -> bool:
        return self.tree.args.get("distinct") is not None

    @property
    def limited(self) -> bool:
        return bool(self.tree.args.get("limit") or self.tree.args.get("offset"))

    @property
    def plain(self) -> bool:
        """Tell whether each row of its joins gives its rows of the result by itself."""
        return self.group_keys is None and not self.partitions and not self.distinct and not self.limited

    def item_of(self, token: str) -> Item | None:
        return next((i for i in self.items if i.token == token), None)

    def null_supplied(self) -> set[str]:
        """Give the tokens of items that a join may fill with NULLs."""
        found: set[str] = set()
        for place, item in enumerate(self.items):
            if item.kind in {"left", "full"}:
                found.add(item.token)
            if item.kind in {"right", "full"}:
                found.update(i.token for i in self.items[:place])
        return found

    # ---- names ----

    def canonical(self, node: exp.Expr) -> exp.Expr:
        """Give a copy with its columns traced. Raises NotKeyed, also where a subquery is in it."""
        if node.find(exp.Query) is not None:
            raise NotKeyed("an expression has a subquery in it")
        node = node.copy()
        if isinstance(node, exp.Alias):
            node = node.this
        root = exp.Paren(this=node)
        for column in list(root.find_all(exp.Column)):
            column.replace(self._traced(column))
        return bare(root.this)

    def _traced(self, column: exp.Column) -> exp.Expr:
        if not isinstance(column.this, exp.Identifier) or column.args.get("db"):
            raise NotKeyed("a column is named in a way that is not looked into")
        name, table = column.name.lower(), column.table.lower()
        block: Block | None = self
        while block is not None:
            found = block.item_column(name, table)
            if found is None and not table:
                found = next((e for n, e in block.outputs if n == name and e is not None), None)
            if found is not None:
                return found.copy()
            block = block.outer
        raise NotKeyed(f'column "{column.name}" is not traced')

    def item_column(self, name: str, table: str) -> exp.Expr | None:
        known = [i for i in self.items if not table or i.alias.lower() == table]
        having = [i for i in known if i.columns is not None and name in i.columns]
        if not having:
            unknown = [i for i in known if i.columns is None]
            return traced(unknown[0].token, name) if len(unknown) == 1 else None
        found: exp.Expr = traced(having[0].token, name)
        for item in having[1:]:
            if item.hidden:
                continue
            if name not in item.using:
                raise NotKeyed(f'column "{name}" is in several relations')
            if item.kind == "right":
                found = traced(item.token, name)
            elif item.kind == "full":
                found = exp.Coalesce(this=found, expressions=[traced(item.token, name)])
        return found


Node = Block | Operation


def traced(token: str, name: str) -> exp.Column:
    """Make a canonical column."""
    return exp.column(name, table=token, quoted=True)


def tokens(node: exp.Expr) -> set[str]:
    """Give the items that a canonical expression is over."""
    return {c.table for c in node.find_all(exp.Column)}


def bare(node: exp.Expr) -> exp.Expr:
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def stays_null(node: exp.Expr) -> bool:
    """Tell whether an expression is NULL where an outer join has filled all its columns with NULLs: coalesce(a, 0) is not."""
    node = bare(node)
    if isinstance(node, exp.Coalesce):
        return all(stays_null(e) for e in (node.this, *node.expressions))
    return isinstance(node, exp.Column) or (isinstance(node, exp.Cast) and stays_null(node.this))


def parts(node: exp.Expr | None) -> list[exp.Expr]:
    """Give what AND connects."""
    if node is None:
        return []
    node = bare(node)
    return [*parts(node.this), *parts(node.expression)] if isinstance(node, exp.And) else [node]


def scans(node: Node | None) -> Iterator[Scan]:
    """Give every scan in a query, also in its subqueries."""
    if isinstance(node, Operation):
        yield from scans(node.left)
        yield from scans(node.right)
    elif node is not None:
        for item in node.items:
            if item.scan is not None:
                yield item.scan
            yield from scans(item.child)
        for nested in node.nested:
            yield from scans(nested.query)


def pairs_of(condition: exp.Expr, token: str) -> Iterator[tuple[exp.Expr, exp.Expr, bool]]:
    """Give an equality as (the side without this item, the side over it alone, whether NULLs match), if it is one."""
    if not isinstance(condition, (exp.EQ, exp.NullSafeEQ)):
        return
    one, other = bare(condition.this), bare(condition.expression)
    for left, right in ((one, other), (other, one)):
        if tokens(right) == {token} and tokens(left) and token not in tokens(left):
            yield left, right, isinstance(condition, exp.NullSafeEQ)
