"""From a plan's origin to the nodes that run it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from streamsql.engine.operators.asof_join import AsofJoinNode
from streamsql.engine.operators.interval_join import IntervalJoinNode
from streamsql.engine.operators.lookup import LookupNode
from streamsql.engine.operators.outside_lookup import OutsideLookupNode
from streamsql.engine.operators.over import OverNode
from streamsql.engine.operators.rank import RankNode
from streamsql.engine.origins import InnerNode, Node, StreamNode, UnionNode, ViewNode
from streamsql.engine.store import Store
from streamsql.engine.views import ContinuousQuery
from streamsql.plan import origins as plans
from streamsql.plan.nodes import ContinuousPlan

# Queries inside of others have numbers below zero: they only tell names apart while the server runs.
_INNER_IDS = itertools.count(-1, -1)

MakeQuery = Callable[[int, str, ContinuousPlan], ContinuousQuery]


class _Tree:
    def __init__(self, owner: ContinuousQuery, store: Store, make: MakeQuery) -> None:
        self.owner = owner
        self.store = store
        self.make = make
        self.nodes: list[Node] = []

    def add(self, origin: plans.Origin) -> Node:
        node = self._node(origin)
        self.nodes.append(node)
        return node

    def _node(self, origin: plans.Origin) -> Node:
        store, owner = self.store, self.owner
        match origin:
            case plans.StreamScan():
                return StreamNode(origin, store, len(self.nodes))
            case plans.ViewScan():
                return ViewNode(origin, store, len(self.nodes))
            case plans.Inner():
                index = len(self.nodes)
                query = self.make(next(_INNER_IDS), f"{owner.name}#{index}", origin.plan)
                query.owner, query.keeps_result = owner, False
                return InnerNode(origin, store, index, query)
            case plans.Union():
                branches = [self.add(b) for b in origin.branches]
                return UnionNode(origin, store, len(self.nodes), branches)
            case plans.Lookup():
                left = self.add(origin.left)
                looking = LookupNode if origin.outside is None else OutsideLookupNode
                return looking(origin, store, len(self.nodes), left, owner.id)
            case plans.Rank():
                ranked = self.add(origin.input)
                return RankNode(origin, store, len(self.nodes), ranked, owner, temporary=owner.temporary)
            case plans.Over():
                below = self.add(origin.input)
                return OverNode(origin, store, len(self.nodes), below, owner, temporary=owner.temporary)
            case plans.IntervalJoin():
                inputs = (self.add(origin.left), self.add(origin.right))
                index = len(self.nodes)
                kind = AsofJoinNode if origin.kind.startswith("ASOF") else IntervalJoinNode
                return kind(origin, store, index, inputs, owner, temporary=owner.temporary)
        raise AssertionError(origin)


def nodes_of(owner: ContinuousQuery, origin: plans.Origin, store: Store, make: MakeQuery) -> list[Node]:
    """Make the nodes of a query's origin, each after its inputs: the last is the one that the query reads."""
    tree = _Tree(owner, store, make)
    tree.add(origin)
    return tree.nodes
