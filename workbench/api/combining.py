"""Makes one adapter out of several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.config.merge import MergeConfig, WeightedPart
from workbench.config.model import ModelConfig
from workbench.leaderboard.shown_table import Shown, Table
from workbench.models.combining.combine_adapters import Combination, combine_adapters
from workbench.plain_values import Folder, check_known, output_folder, section

SETTINGS = ("method", "density", "rank", "seed")
"""Fields of the merge section that `combine` takes."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Combined(Shown):
    """Result of `combine`: the folder of the combined adapter, and the report."""

    folder: Path
    """Folder of the combined adapter."""
    report: Combination
    """Method, rank, the adapters with their weights, and the difference from their weighted sum."""

    def table(self) -> Table:
        """Return a table with one row per adapter: weight, path, number of layers."""
        rows = [[f"{part.weight:g}", part.path, str(part.num_layers)] for part in self.report.adapters]
        difference = self.report.difference
        notes = [] if difference is None else [f"{difference:.2g} of the weighted sum's size away from it"]
        title = f"Combined into {self.folder} by {self.report.method}, rank {self.report.rank}"
        return Table(title=title, header=["weight", "adapter", "layers"], rows=rows, notes=notes)


def combine(
    adapters: Mapping[Folder, float] | Sequence[Folder],
    output: Folder,
    *,
    model_path: Folder | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Combined:
    """Write one LoRA adapter, combined from several of one base, to `output`.

        combine({"runs/zh/adapter": 0.5, "runs/en/adapter": 0.7}, "runs/both", model_path="MODEL")

    Args:
        adapters: Folder or Hub id -> weight; or a list of these, each with weight 1.
        output: Folder of the combined adapter, in peft's format.
        model_path: The base, whose layers the adapters must fit; None: it is not checked.
        overwrite: Replace the contents of `output`; False: a folder that isn't empty is refused.
        settings: Fields of `MergeConfig`: method, density, rank, seed.

    Raises:
        WorkbenchError: A setting is unknown, or the adapters can't be combined.
    """
    for name in settings:
        check_known(name, SETTINGS, "combine")
    weights = adapters if isinstance(adapters, Mapping) else dict.fromkeys(adapters, 1.0)
    parts = [WeightedPart(path=str(path), weight=float(weight)) for path, weight in weights.items()]
    merge = section(MergeConfig, {"adapters": parts, **settings}, "merge")
    folder = output_folder(output, overwrite)
    model = None if model_path is None else section(ModelConfig, {"path": model_path}, "model")
    return Combined(folder=folder, report=combine_adapters(model, merge, folder))
