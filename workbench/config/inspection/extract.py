"""The extract section: a LoRA computed from two checkpoints, or from an adapter of another method."""

from dataclasses import dataclass

from workbench.config.ranges import check_ranges, number


@dataclass(kw_only=True)
class ExtractConfig:
    r"""recipe=extract: the LoRA that is nearest to the difference of two checkpoints, by truncated SVD.

    With adapter.path in place of merged.path, the LoRA nearest to what that adapter does.

    Example:
        python -m workbench recipe=extract model.path=BASE \
            merged.path=TUNED extract.share=0.9
    """

    share: float = number(0.95, 0, 1, above=True)
    """Share of each layer's squared difference that the LoRA must reproduce; max_rank limits its rank.
    Rounding errors of the two checkpoints are not counted."""
    max_rank: int = number(128, 1, 2**14)
    """Largest rank of a layer."""
    rank: int | None = number(None, 1, 2**14)
    """The same rank for each layer. null: the smallest rank that reproduces the share."""
    keep_rest: bool = False
    """true saves changed weights that a LoRA can't hold (norms, biases, embeddings, heads) whole with the
    adapter. false names them and leaves them out. What the adapter at adapter.path has whole is always
    kept."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        check_ranges(self, "extract")
