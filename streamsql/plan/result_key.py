"""The columns by which the rows of a result are told apart, as its query says."""

from __future__ import annotations

from sqlglot import exp

from streamsql.plan.output_names import output_name
from streamsql.sql.statements import Query

_SETS = ("all", "cube", "grouping_sets", "rollup")
# what gives several rows for one, when it stands in the list of SELECT
_SEVERAL = (exp.Unnest, exp.Explode, exp.GenerateSeries, exp.ExplodingGenerateSeries)


def grouped_columns(query: Query) -> tuple[str, ...]:
    """Name the columns of a result that show all that it is grouped by; () where they do not, or it is not."""
    tree = query.tree
    group = tree.args.get("group") if isinstance(tree, exp.Select) else None
    if group is None or any(group.args.get(kind) for kind in _SETS) or any(i.find(*_SEVERAL) for i in tree.expressions):
        return ()
    names = [output_name(item, query) for item in tree.expressions]
    shown: dict[exp.Expr, str] = {}
    for name, item in zip(names, tree.expressions, strict=True):
        bare = item.unalias()
        if not isinstance(bare, exp.Literal):
            shown[bare] = name
        if isinstance(bare, exp.Column) and bare.name == name:  # t.k, which GROUP BY may call k
            shown.setdefault(exp.column(name), name)
    shown |= {exp.Literal.number(place): name for place, name in enumerate(names, 1)}  # GROUP BY 1
    found = [shown.get(key.unnest()) for key in group.expressions]
    return tuple(name for name in found if name is not None) if None not in found else ()
