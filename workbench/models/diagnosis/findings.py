"""Defines the findings of a diagnosis: an observation, its possible causes, and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass, field

TRAINED_SO = "right if the adapter was trained so (then add quantization={}), else use the whole base"
CAUSES = {
    "not_finite": ("NaN or infinite weights", "merge again; the source or the dtype was damaged"),
    "missing_weights": ("weights are missing", "copy or merge the folder again"),
    "embedding_rows": (
        "the embedding's rows don't fit the tokenizer",
        "resize the embedding to the adapter's tokenizer before the merge, and save that tokenizer",
    ),
    "wrong_base": ("another base model", "merge into the base that adapter_config.json names"),
    "further_trained": ("the weights were trained further", "take the folder that the merge wrote"),
    "architecture": ("config.json describes another model", "copy the base's config.json"),
    "lost_head": ("the trained head is lost", "merge with the class that the adapter was trained with"),
    "fresh_head": (
        "the head is another one, such as a new random one",
        "take the head of the adapter or the base",
    ),
    "not_merged": ("nothing was merged", "merge the adapter, and check that the tool has loaded it"),
    "zero_update": ("the adapter does nothing", "take a later checkpoint; this one is untrained"),
    "rounded_away": ("rounding removes the update", "merge in float32"),
    "another_adapter": ("another adapter was merged", "merge this adapter into the original base"),
    "truncated_adapter": ("the adapter's file is incomplete", "copy or save the adapter again"),
    "merged_twice": ("merged twice", "merge once, into the original base"),
    "other_alpha": ("alpha or rank was another one", "use the adapter_config.json that training wrote"),
    "rslora": ("use_rslora was another one", "use the adapter_config.json that training wrote"),
    "subtracted": ("the update was subtracted", "merge into the original base"),
    "module_left_out": ("modules were left out", "merge with all of the adapter's modules"),
    "extra_module": ("modules that the adapter doesn't have were changed", "start from the original base"),
    "tied_embedding": (
        "the tied embedding has its own update twice, or an update that is its own or the head's alone",
        "untie the head before the merge, or don't adapt it",
    ),
    "requantized": ("quantized again after the merge", "save the merged model unquantized"),
    "nf4_base": ("merged into a base that was quantized to nf4", TRAINED_SO.format("nf4")),
    "fp4_base": ("merged into a base that was quantized to fp4", TRAINED_SO.format("fp4")),
    "int8_base": ("merged into a base that was quantized to int8", TRAINED_SO.format("int8")),
    "whole_base": (
        "trained on a quantized base, and merged into the whole one",
        "merge into the dequantized base (recipe=merge with the same quantization)",
    ),
    "end_token": ("another end token", "save the tokenizer that the adapter was trained with"),
    "chat_template": ("another chat template", "save the tokenizer that the adapter was trained with"),
    "generation_config": (
        "other token ids in generation_config.json",
        "copy it from the adapter or the base",
    ),
    "as_trained": ("merged into the quantized base that it was trained on", "nothing to do"),
    "rounded_twice": ("rounded twice", "nothing, unless the last bits matter"),
    "padded_rows": ("padding rows", "nothing to do"),
    "no_tokenizer": ("the folder has no tokenizer", "copy the tokenizer of adapter or base"),
    "sampling": ("other sampling settings", "nothing, unless they were meant to stay"),
    "low_rank": ("as after merging an adapter", "name it with adapter.path to compare"),
    "full_rank": ("trained as a whole, or another model", "nothing to do"),
}
"""Cause -> its description, and what to do; the most harmful first."""
NOTES = ("as_trained", "rounded_twice", "padded_rows", "no_tokenizer", "sampling", "low_rank", "full_rank")
"""Causes that aren't faults."""


@dataclass(frozen=True)
class Finding:
    """One observation about a merged model, with the causes that explain it."""

    causes: tuple[str, ...]
    """Keys of `CAUSES` that explain the observation equally well; the likeliest first."""
    seen: str
    """The observation: a measurement, and where it was made."""
    tensors: Sequence[str] = field(default=())
    """Canonical names of the tensors that the finding is about."""
    times: float | None = None
    """Factor x for which base + x times the adapter's update explains the tensors; None if no x does."""

    @property
    def is_note(self) -> bool:
        """Return whether the finding is a note and not a fault."""
        return all(cause in NOTES for cause in self.causes)

    @property
    def harm(self) -> int:
        """Return the index in `CAUSES` of the finding's most harmful cause; 0 is the most harmful of all."""
        return min(list(CAUSES).index(cause) for cause in self.causes)

    @property
    def words(self) -> str:
        """Return the descriptions of the causes as one text."""
        return ", or ".join(CAUSES[cause][0] for cause in self.causes)

    @property
    def text(self) -> str:
        """Return the finding as a line: observation, causes, and what to do."""
        advice = dict.fromkeys(CAUSES[cause][1] for cause in self.causes)
        return f"{self.seen}: {self.words} ({'; or '.join(advice)})"


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Return a sorted list of the findings, the most harmful first."""
    return sorted(findings, key=lambda finding: finding.harm)


def counted(names: Sequence[str], total: int | None = None) -> str:
    """Return the number of the tensors `names` and the last parts of their modules' names, for a message.

    As `14 of 14 tensors (q_proj, v_proj)`; `total` is the second number, left out if None.
    """
    kinds = list(dict.fromkeys(name.removesuffix(".weight").rpartition(".")[2] for name in names))
    of = f" of {total}" if total is not None else ""
    shown = ", ".join(kinds[:4]) + (", ..." if len(kinds) > 4 else "")
    return f"{len(names)}{of} tensor{'s' if (total or len(names)) != 1 else ''} ({shown})"
