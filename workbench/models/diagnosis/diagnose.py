"""Diagnoses a merged model of any tool: examines its tensors and files, and explains the differences."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.errors import CheckpointError
from workbench.models.checkpoints.hub import locate_adapter
from workbench.models.checkpoints.model_folder import ModelFolder
from workbench.models.diagnosis.adapter_layers import AdapterLayers, adapter_layers
from workbench.models.diagnosis.described import compare_descriptions
from workbench.models.diagnosis.evidence import Evidence
from workbench.models.diagnosis.examine import examine
from workbench.models.diagnosis.explain import explain
from workbench.models.diagnosis.findings import Finding, in_order
from workbench.models.diagnosis.least_squares import Fit, Kind

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Findings about a merged model, and how each of its tensors relates to base and adapter."""

    fits: list[Fit]
    """One for each tensor, in the order of the base's files."""
    findings: list[Finding]
    """Faults, the most harmful first, and then notes."""

    @property
    def faults(self) -> list[Finding]:
        """Return the findings without notes."""
        return [finding for finding in self.findings if not finding.is_note]

    @property
    def summary(self) -> str:
        """Return the number of tensors of each kind in one line, as `14 tensors: 14 base + update; ...`."""
        counts = Counter(fit.kind.value for fit in self.fits)
        exact = [fit for fit in self.fits if fit.kind is Kind.merged]
        to_the_bit = sum(fit.equal_share == 1.0 for fit in exact)
        parts = [f"{count} {kind}" for kind, count in counts.most_common()]
        bits = f"; {to_the_bit} of {len(exact)} merged ones to the bit" if exact else ""
        return f"{len(self.fits)} tensors: {', '.join(parts)}{bits}"

    def as_json(self) -> dict[str, Any]:
        """Return the diagnosis as JSON values: `schema_version`, `is_sound`, `findings` and `tensors`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "is_sound": not self.faults,
            "findings": [
                {**asdict(finding), "is_note": finding.is_note, "text": finding.text}
                for finding in self.findings
            ],
            "tensors": [{**asdict(fit), "kind": fit.kind.name} for fit in self.fits],
        }


def diagnose(
    base: ModelFolder,
    merged: ModelFolder,
    adapter_path: str | Path | None,
    trained_on: str = "",
    progress: Callable[[Fit], None] = lambda fit: None,
) -> Diagnosis:
    """Compare a merged model with its base and adapter, and return what is wrong with it.

    If the adapter's weight file is damaged, that is a finding, and the model is compared with its base only.

    Args:
        base: The base.
        merged: The merged model.
        adapter_path: Folder or hub id of the adapter; None: only the difference from the base is described.
        trained_on: Quantization of the base during the adapter's training, such as nf4; empty: none.
        progress: Called with the fit of each tensor, after it is examined.

    Raises:
        CheckpointError: A file of base or merged model is damaged, the adapter doesn't fit the base, or the
            adapter's updates can't be computed from its file and the base.
    """
    adapter, folder, findings = _adapter(adapter_path, base)
    fits = []
    for fit in examine(base, merged, adapter):
        fits.append(fit)
        progress(fit)
    evidence = Evidence(fits, adapter, base.is_tied, trained_on)
    findings += explain(evidence)
    findings += compare_descriptions(base, merged, folder)
    return Diagnosis(fits=fits, findings=in_order(_unique(findings)))


def _adapter(
    path: str | Path | None, base: ModelFolder
) -> tuple[AdapterLayers | None, Path | None, list[Finding]]:
    """Open the adapter; return it, its folder and findings about it.

    A damaged weight file becomes a finding, and the merged model is examined without the adapter.
    """
    if path is None:
        return None, None, []
    folder = locate_adapter(path)
    try:
        return adapter_layers(path, base), folder, []
    except CheckpointError as error:
        if "truncated" not in str(error) and "can't be read" not in str(error):
            raise
        return None, folder, [Finding(("truncated_adapter",), str(error))]


def _unique(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings without repetitions of the same causes, tensors and observation."""
    by_key = {(finding.causes, tuple(finding.tensors), finding.seen): finding for finding in findings}
    return list(by_key.values())
