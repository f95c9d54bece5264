"""Base and adapter as one model on disk, proven."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.api.loading import Quantization, quantized
from workbench.config.merge import MergeConfig
from workbench.config.model import Dtype, ModelConfig
from workbench.errors import ConfigError
from workbench.leaderboard.shown_table import Shown, Table
from workbench.models import merging
from workbench.plain_values import Folder, route, section
from workbench.trust import trusting


@dataclass(frozen=True, kw_only=True, repr=False)
class Merged(Shown):
    """A merged model and the proof that it answers as base and adapter do."""

    folder: Path
    report: merging.MergeReport

    def table(self) -> Table:
        """One line a comparison of logits."""
        checks = {
            f"merged model against the {self.report.reference}": self.report.merged,
            "float32 sum against base + adapter": self.report.float32_sum,
            "folder read back against what was saved": self.report.disk,
        }
        rows = [
            [
                name,
                f"{check.largest:.2g}",
                f"{check.bound:.2g}",
                f"{check.argmax_flips} of {check.num_positions}",
            ]
            for name, check in checks.items()
        ]
        header = ["comparison", "largest difference of logits", "allowed", "other next tokens"]
        return Table(title=f"Merged into {self.folder}", header=header, rows=rows)


def merge(
    model_path: Folder,
    adapter_path: Folder,
    output: Folder,
    *,
    quantization: Quantization = "none",
    base_dtype: str | Dtype = "auto",
    probe: list[str] | None = None,
    overwrite: bool = False,
    trust_code: bool = False,
    **settings: Any,
) -> Merged:
    """Write the merged model to `output`, and its proof to merge_report.json beside that folder, or neither.

    Args:
        model_path: Folder, Hub id or `.gguf` file of the base.
        adapter_path: Folder of the adapter.
        output: Folder of the merged model.
        quantization: The one that the adapter was trained on; the merged model is not quantized.
        base_dtype: The dtype that the base had in training.
        probe: Texts to compare the models on; None: a few sentences in both languages.
        overwrite: Replace what is in `output`.
        trust_code: Run the modelling code that lies beside the base's weights.
        settings: Further fields of `MergeConfig` (dtype, max_shard_size, ...) and of `ModelConfig`.

    Raises:
        WorkbenchError: An unknown setting, an adapter of another model, or a proof that failed.
    """
    chosen = route(settings, {"merge": MergeConfig, "model": ModelConfig}, "merge", ("path", "init"))
    how = section(MergeConfig, chosen["merge"], "merge")
    base = section(ModelConfig, {"path": model_path, "dtype": base_dtype, **chosen["model"]}, "model")
    folder = Path(output)
    if folder.exists() and not overwrite and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"output: {str(folder)!r} is not empty (overwrite=True, or another folder)")
    with trusting(trust_code):
        texts = merging.SENTENCES if probe is None else probe
        report = merging.merge(base, adapter_path, how, quantized(quantization), folder, texts)
    return Merged(folder=folder, report=report)
