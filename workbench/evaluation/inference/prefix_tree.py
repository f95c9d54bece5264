"""What prompts have in common is computed once: requests become a tree of tokens, the tree a list of passes.

A node is one token after all its ancestors. Nodes are numbered depth first over the sorted requests, so
the descendants of node n are the numbers n + 1 to end[n] - 1, whatever the order that requests came in.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_SHORT_CHAIN = 16
"""A shared beginning of fewer tokens is computed again in each pass rather than kept in a cache."""


@dataclass(frozen=True)
class TokenRequest:
    """A sequence of which the tokens from `first` on are scored, each given all before it."""

    tokens: tuple[int, ...]
    first: int
    """0 < first < len(tokens)."""


@dataclass
class Tree:
    """A forest of shared beginnings; every list has one entry a node."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    """-1 for a first token."""
    depths: list[int] = field(default_factory=list)
    """Position in the sequence, from 0."""
    ends: list[int] = field(default_factory=list)
    """One past the last descendant."""
    paths: list[list[int]] = field(default_factory=list)
    """For each request, in the order given: its nodes; the last token has none, as nothing follows it."""


@dataclass(frozen=True)
class Pass:
    """One forward pass over some nodes, after the nodes that are in the cache."""

    nodes: list[int]
    num_cached: int
    """Nodes in the cache that this pass continues from; the cache is cut to these before."""
    keep: bool
    """Whether the nodes stay in the cache: they are a single line then."""


def build(requests: Sequence[TokenRequest]) -> Tree:
    """The tree of all requests."""
    tree = Tree(paths=[[] for _ in requests])
    previous: list[int] = []
    for index in sorted(range(len(requests)), key=lambda i: requests[i].tokens):
        inputs = requests[index].tokens[:-1]
        shared = _common(tree, previous, inputs)
        path = previous[:shared]
        for depth in range(shared, len(inputs)):
            tree.parents.append(path[-1] if path else -1)
            path.append(len(tree.tokens))
            tree.tokens.append(inputs[depth])
            tree.depths.append(depth)
        tree.paths[index] = previous = path
    tree.ends = [node + 1 for node in range(len(tree.tokens))]
    for node in reversed(range(len(tree.tokens))):
        parent = tree.parents[node]
        if parent >= 0:
            tree.ends[parent] = max(tree.ends[parent], tree.ends[node])
    return tree


def _common(tree: Tree, path: Sequence[int], tokens: Sequence[int]) -> int:
    """How many of the first tokens are those of a path."""
    for depth, (node, token) in enumerate(zip(path, tokens, strict=False)):
        if tree.tokens[node] != token:
            return depth
    return min(len(path), len(tokens))


def schedule(tree: Tree, budget: int, num_cached: int = 0) -> Iterator[Pass]:
    """Passes of at most `budget` nodes that cover every node, with its ancestors in the pass or the cache.

    A subtree that fits goes into one pass together with its neighbours. The shared beginning of a larger
    one is computed first and kept in the cache for what follows it.

    Args:
        tree: what is to be computed.
        budget: nodes of a pass at most.
        num_cached: nodes that are in the cache already; every request begins with them.
    """
    yield from _forest(tree, num_cached, len(tree.tokens), num_cached, budget)


def _forest(tree: Tree, start: int, stop: int, num_cached: int, budget: int) -> Iterator[Pass]:
    """Passes over the sibling subtrees start..stop, whose common ancestors are all in the cache."""
    small: list[int] = []
    large: list[tuple[int, int]] = []
    filled = _Filler(budget, num_cached)
    pending = [(start, stop, small)]
    while pending:
        first, last, carried = pending.pop()
        node = first
        while node < last:
            end = tree.ends[node]
            if len(carried) + end - node <= budget:
                yield from filled.add(carried, range(node, end))
            else:
                chain = _chain(tree, node)
                if len(carried) + chain - node < _SHORT_CHAIN and chain < end:
                    if end < last:
                        pending.append((end, last, carried))
                    pending.append((chain, end, [*carried, *range(node, chain)]))
                    break
                large.append((node, end))
                filled.carry_for[node] = carried
            node = end
    yield from filled.rest()
    for node, end in large:
        yield from _deep(tree, filled.carry_for[node], node, end, num_cached, budget)


def _deep(
    tree: Tree, carried: list[int], start: int, end: int, num_cached: int, budget: int
) -> Iterator[Pass]:
    """Passes over one large subtree: its shared beginning into the cache, then what follows."""
    chain = _chain(tree, start)
    line = [*carried, *range(start, chain)]
    for offset in range(0, len(line), budget):
        piece = line[offset : offset + budget]
        yield Pass(piece, num_cached, keep=True)
        num_cached += len(piece)
    yield from _forest(tree, chain, end, num_cached, budget)


def _chain(tree: Tree, node: int) -> int:
    """One past the last node of the unbranched line that starts at a node."""
    end = tree.ends[node]
    while node + 1 < end and tree.ends[node + 1] == end:
        node += 1
    return node + 1


class _Filler:
    """Packs subtrees into passes, in order, each with the ancestors that it needs and that aren't cached."""

    def __init__(self, budget: int, num_cached: int) -> None:
        self.budget = budget
        self.num_cached = num_cached
        self.nodes: list[int] = []
        self.present: set[int] = set()
        self.carry_for: dict[int, list[int]] = {}

    def add(self, carried: list[int], subtree: range) -> Iterator[Pass]:
        new = [node for node in carried if node not in self.present]
        if self.nodes and len(self.nodes) + len(new) + len(subtree) > self.budget:
            yield from self.rest()
            new = carried
        self.nodes += [*new, *subtree]
        self.present.update(new)

    def rest(self) -> Iterator[Pass]:
        if self.nodes:
            yield Pass(self.nodes, self.num_cached, keep=False)
        self.nodes, self.present = [], set()
