"""Merges an adapter into its base model."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from workbench.api.loading import Quantization, quantized
from workbench.config.merge import MergeConfig
from workbench.config.model import Dtype, ModelConfig
from workbench.leaderboard.shown_table import Shown, Table
from workbench.models.merging.merge import SENTENCES, MergeReport
from workbench.models.merging.merge import merge as merge_and_prove
from workbench.plain_values import Folder, output_folder, route, section
from workbench.run_dir import write_json
from workbench.trust import trusting

NOT_SETTINGS = ("path", "init", *(field.name for field in fields(MergeConfig) if field.name != "dtype"))
"""Fields that `merge` doesn't take: its own arguments say them, or they combine several adapters."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Merged(Shown):
    """Result of `merge`: the folder of the merged model, and the report of the comparisons that prove it."""

    folder: Path
    """Folder of the merged model."""
    report_file: Path
    """JSON file with the report."""
    report: MergeReport
    """Differences of logits and weights between the merged model and base plus adapter."""

    def table(self) -> Table:
        """Return a table with one row per comparison of logits that the proof made."""
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
            if check is not None
        ]
        header = ["comparison", "largest difference of logits", "allowed", "other next tokens"]
        title = f"Merged into {self.folder}: {self.report.summary}"
        return Table(title=title, header=header, rows=rows)


def merge(
    model_path: Folder,
    adapter_path: Folder,
    output: Folder,
    *,
    quantization: Quantization = "none",
    base_dtype: str | Dtype = "auto",
    probe: list[str] | None = None,
    accept_base: bool = False,
    overwrite: bool = False,
    trust_code: bool = False,
    **settings: Any,
) -> Merged:
    """Write the merged model to `output` and the report of its proof to `output`.merge_report.json.

        merge("MODEL", "runs/mine/adapter", "runs/mine/merged", quantization="nf4")

    If the proof fails, neither is written.

    Args:
        model_path: Folder, Hub id or `.gguf` file of the base model.
        adapter_path: Folder or Hub id of the adapter.
        output: Folder of the merged model.
        quantization: Quantization of the base model in training; the merged model is not quantized.
        base_dtype: The dtype of the base model in training; auto: as in `load_model`.
        probe: Texts on which the logits are compared; None: four sentences, in Chinese and English.
        accept_base: Merge into another base than the one that the adapter was trained on.
        overwrite: Replace the contents of `output`; False: a folder that isn't empty is refused.
        trust_code: Run modelling code from the base model's folder.
        settings: `dtype` of the merged model (as `MergeConfig.dtype`), and further fields of `ModelConfig`.

    Raises:
        WorkbenchError: A setting is unknown, the adapter is of another model, or the proof failed.
    """
    chosen = route(settings, {"merge": MergeConfig, "model": ModelConfig}, "merge", NOT_SETTINGS)
    merge_section = section(MergeConfig, chosen["merge"], "merge")
    base = section(ModelConfig, {"path": model_path, "dtype": base_dtype, **chosen["model"]}, "model")
    folder, texts = output_folder(output, overwrite), SENTENCES if probe is None else probe
    report_file = folder.parent / f"{folder.name}.merge_report.json"
    with trusting(trust_code):
        report = merge_and_prove(
            base,
            adapter_path,
            merge_section,
            quantized(quantization),
            folder,
            texts,
            accepts_base=accept_base,
        )
    write_json(report_file, asdict(report))
    return Merged(folder=folder, report_file=report_file, report=report)
