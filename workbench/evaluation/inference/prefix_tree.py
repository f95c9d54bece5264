"""Schedules forward passes that compute shared prefixes of prompts once, by a tree of their tokens.

A node is one token after all its ancestors. Nodes are numbered depth-first over the sorted requests, so the
descendants of node n are the nodes n + 1 to end[n] - 1, for any order of the requests.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_SHORT_CHAIN = 16
"""A shared prefix of fewer tokens is computed again in each pass instead of being cached."""


@dataclass(frozen=True)
class TokenRequest:
    """Sequence whose tokens from position `first` on are scored, each given all tokens before it."""

    tokens: tuple[int, ...]
    first: int
    """0 < first < len(tokens)."""


@dataclass
class Tree:
    """Prefix tree (a forest) of requests; every list except `paths` has one entry per node."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    """Parent node; -1 for a first token."""
    depths: list[int] = field(default_factory=list)
    """Position in the sequence, from 0."""
    ends: list[int] = field(default_factory=list)
    """Number of the node's last descendant + 1; the node's own number + 1 if it has none."""
    paths: list[list[int]] = field(default_factory=list)
    """Nodes of each request, in the order of the requests; a request's last token is not an input."""


@dataclass(frozen=True)
class Pass:
    """One forward pass over some nodes of the tree, which attend to each other and to cached nodes."""

    nodes: list[int]
    num_cached: int
    """Number of cached nodes that this pass continues from; the cache is cropped to them first."""
    keep: bool
    """Whether the nodes stay in the cache; then they are a chain without branches."""


def branches(tree: Tree, step: Pass) -> tuple[list[int], list[list[range]]]:
    """Split a pass into chains of consecutive nodes, each the parent of the next.

    Returns:
        The number of nodes of each chain, in order, and its keys: ranges of indices among the cached nodes
        and, after them, those of the pass. They are the cached nodes, the chain's ancestors, and the chain.
    """
    starts: list[int] = []
    before: list[list[range]] = []
    chain_and_key: dict[int, tuple[int, int]] = {}  # by node
    for key, node in enumerate(step.nodes, start=step.num_cached):
        chain, parent = chain_and_key.get(tree.parents[node], (-1, -1))
        if chain < 0:
            before.append([range(step.num_cached)])
        elif parent != key - 1:
            before.append([*before[chain], range(starts[chain], parent + 1)])
        if len(before) > len(starts):
            starts.append(key)
        chain_and_key[node] = len(starts) - 1, key
    ends = [*starts[1:], step.num_cached + len(step.nodes)]
    own = [range(start, end) for start, end in zip(starts, ends, strict=True)]
    return [len(keys) for keys in own], [[*above, keys] for above, keys in zip(before, own, strict=True)]


def build(requests: Sequence[TokenRequest]) -> Tree:
    """Build the prefix tree of all requests, whose nodes are the tokens that the model reads.

    A request's last token is only scored, so it gets no node.
    """
    tree = Tree(paths=[[] for _ in requests])
    previous: list[int] = []
    for index in sorted(range(len(requests)), key=lambda i: requests[i].tokens):
        inputs = requests[index].tokens[:-1]
        num_shared = _num_common(tree, previous, inputs)
        path = previous[:num_shared]
        for depth in range(num_shared, len(inputs)):
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


def _num_common(tree: Tree, path: Sequence[int], tokens: Sequence[int]) -> int:
    """Return the length of the common prefix of `tokens` and the tokens of a path's nodes."""
    for depth, (node, token) in enumerate(zip(path, tokens, strict=False)):
        if tree.tokens[node] != token:
            return depth
    return min(len(path), len(tokens))


def schedule(tree: Tree, budget: int, num_cached: int = 0) -> Iterator[Pass]:
    """Yield passes of at most `budget` nodes that cover all nodes, with ancestors in the pass or the cache.

    Subtrees that fit share a pass. The shared prefix of a larger subtree is computed first and stays in the
    cache for the rest of the subtree.

    Args:
        tree: prefix tree of the requests.
        budget: largest number of nodes in a pass.
        num_cached: number of nodes that are cached already; every request starts with them.
    """
    yield from _forest(tree, num_cached, len(tree.tokens), num_cached, budget)


def _forest(tree: Tree, start: int, stop: int, num_cached: int, budget: int) -> Iterator[Pass]:
    """Yield passes over sibling subtrees, which have the numbers `start` to `stop` - 1.

    All ancestors of the subtrees' roots are in the cache.
    """
    large: list[tuple[int, int]] = []
    packer = _Packer(budget, num_cached)
    no_ancestors: list[int] = []
    pending = [(start, stop, no_ancestors)]
    while pending:
        first, last, ancestors = pending.pop()
        node = first
        while node < last:
            end = tree.ends[node]
            if len(ancestors) + end - node <= budget:
                yield from packer.add(ancestors, range(node, end))
            else:
                chain_end = _chain_end(tree, node)
                if len(ancestors) + chain_end - node < _SHORT_CHAIN and chain_end < end:
                    if end < last:
                        pending.append((end, last, ancestors))
                    pending.append((chain_end, end, [*ancestors, *range(node, chain_end)]))
                    break
                large.append((node, end))
                packer.ancestors[node] = ancestors
            node = end
    yield from packer.flush()
    for node, end in large:
        yield from _deep(tree, packer.ancestors[node], node, end, num_cached, budget)


def _deep(
    tree: Tree, ancestors: list[int], start: int, end: int, num_cached: int, budget: int
) -> Iterator[Pass]:
    """Yield passes over a subtree too large for one pass: first its shared prefix, which the cache keeps.

    The shared prefix is `ancestors`, which aren't cached yet, and all nodes before the subtree branches.
    """
    chain_end = _chain_end(tree, start)
    prefix = [*ancestors, *range(start, chain_end)]
    for offset in range(0, len(prefix), budget):
        nodes = prefix[offset : offset + budget]
        yield Pass(nodes, num_cached, keep=True)
        num_cached += len(nodes)
    yield from _forest(tree, chain_end, end, num_cached, budget)


def _chain_end(tree: Tree, node: int) -> int:
    """Follow only children from a node until the tree branches; return the last such node's number + 1."""
    end = tree.ends[node]
    while node + 1 < end and tree.ends[node + 1] == end:
        node += 1
    return node + 1


class _Packer:
    """Packs subtrees into passes, in order, together with the ancestors that aren't cached."""

    def __init__(self, budget: int, num_cached: int) -> None:
        self.budget = budget
        self.num_cached = num_cached
        self.nodes: list[int] = []
        self.present: set[int] = set()
        self.ancestors: dict[int, list[int]] = {}

    def add(self, ancestors: list[int], subtree: range) -> Iterator[Pass]:
        new = [node for node in ancestors if node not in self.present]
        if self.nodes and len(self.nodes) + len(new) + len(subtree) > self.budget:
            yield from self.flush()
            new = ancestors
        self.nodes += [*new, *subtree]
        self.present.update(new)

    def flush(self) -> Iterator[Pass]:
        if self.nodes:
            yield Pass(self.nodes, self.num_cached, keep=False)
        self.nodes, self.present = [], set()
