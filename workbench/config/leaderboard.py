"""The leaderboard section: which models are scored, where runs are looked for, and what is tested."""

from dataclasses import dataclass, field
from enum import Enum

from workbench.config.model import Dtype
from workbench.config.names import check_file_name, check_once
from workbench.config.quantization import QuantizationMethod
from workbench.config.ranges import check_ranges
from workbench.errors import ConfigError

FamilyKind = Enum(
    "FamilyKind", {"auto": "auto", "pairs": "pairs", "reference": "reference", "names": "names"}
)
"""Which pairs of models a leaderboard tests for a difference."""


@dataclass(kw_only=True)
class ModelEntry:
    """One entry of the YAML file that `leaderboard.models` names: a model to score."""

    path: str
    """Folder, Hub id or GGUF file of the base model."""
    name: str | None = None
    """Name of the model's run folder and leaderboard row. null: made of path, quantization and adapter."""
    adapter: str | None = None
    """Folder or Hub id of an adapter on the base model. null: the base model itself is scored."""
    quantization: QuantizationMethod = QuantizationMethod.none
    """Number format of the base model's linear layers."""
    dtype: Dtype = Dtype.auto
    """Floating point type of the base model's unquantized weights."""
    revision: str | None = None
    """Branch, tag or commit of a Hub id."""
    tokenizer: str | None = None
    """Folder or Hub id of a tokenizer other than the model's own."""

    def __post_init__(self) -> None:
        """Refuse a name that can't be a folder name."""
        if self.name is not None:
            check_file_name("name", self.name)


@dataclass(kw_only=True)
class LeaderboardConfig:
    r"""Comparison of all models scored in a folder, in the terminal and as leaderboard.html.

    Example:
        python -m workbench recipe=leaderboard leaderboard.models=models.yaml \
            'benchmark=[cmmlu,hellaswag]' leaderboard.family=pairs
    """

    models: str | None = None
    """YAML file with a list of models to score on the chosen benchmarks first: a path, or a mapping with
    path and any of name, adapter, quantization, dtype, revision, tokenizer. Each gets a run folder in
    `leaderboard.folder`; scores that exist are kept. null: none."""
    entries: list[str] = field(default_factory=list)
    """Names of the models of that file to score; with `-m` and a launcher, jobs share them. Empty: all."""
    folder: str = "runs"
    """Folder that is searched for runs. leaderboard.html is written there, and the files for other programs:
    leaderboard.csv, .md, .tex and .json, differences.csv, items.parquet, every_eval_ever/, and pictures."""
    family: FamilyKind = FamilyKind.auto
    """Which models are tested against which; the error rate of 3% (of a board's 5%) is shared by all tests,
    so fewer tests find smaller differences. pairs: any two. reference: each against leaderboard.reference.
    names: any two of leaderboard.names. auto: pairs for up to 20 models, else reference."""
    reference: str | None = None
    """Name of the model that the others are tested against. null: the base that most models were made
    from."""
    names: list[str] = field(default_factory=list)
    """Names of the models that are tested, for `family: names`."""
    trained_for: list[str] | None = None
    """Benchmarks that the models were trained for. Forgetting is tested on all others: each trained model
    against the model it was made from. []: for none of them. null: not declared, so not tested."""

    def __post_init__(self) -> None:
        """Raise ConfigError if a value is out of range, or values contradict each other."""
        if not self.folder.strip():
            raise ConfigError("leaderboard.folder: empty (a folder; . for the current one)")
        check_ranges(self, "leaderboard")
        check_once("leaderboard.names", self.names)
        if self.family is FamilyKind.names and len(self.names) < 2:
            raise ConfigError(
                f"leaderboard.names: {self.names} (family=names needs the names of two models or more)"
            )
