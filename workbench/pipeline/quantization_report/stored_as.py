"""Holds a model in one way: whole, in 8 or 4 bits, or as the weights of a GGUF file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from workbench.config import QuantizationConfig
from workbench.config.history import hashed
from workbench.config.inspection.quantization_report import HeldAs
from workbench.config.model import Dtype, ModelConfig
from workbench.config.publishing.export import ExportConfig, ExportFormat, GgufType
from workbench.models.export import export
from workbench.pipeline.inspection.quantization_ways import BITSANDBYTES, GGUF, in_bits
from workbench.pipeline.quantization_report.subject import Subject
from workbench.run_dir import file_fingerprint, fingerprint


@dataclass(frozen=True, kw_only=True)
class Held:
    """How a model is loaded, and what its answers depend on."""

    model: ModelConfig
    quantization: QuantizationConfig
    fingerprint: str
    num_bytes: int | None
    """Size of the weights in a GGUF file; None: that of the loaded model."""


@contextmanager
def held(
    subject: Subject, held_as: HeldAs, quantization: QuantizationConfig, scratch: Path
) -> Iterator[Held]:
    """Yield how to load a model held in one way; a GGUF file exists within the block.

    Args:
        subject: The model.
        held_as: How it is held.
        quantization: Settings of bitsandbytes, apart from the method.
        scratch: Folder for the GGUF file.
    """
    if held_as in GGUF:
        yield from _as_gguf(subject, held_as, scratch)
    elif held_as in BITSANDBYTES:
        yield _in_few_bits(subject, held_as, quantization)
    else:
        model, own = subject.whole
        yield Held(model=model, quantization=own, fingerprint=fingerprint(subject.identity), num_bytes=None)


def _in_few_bits(subject: Subject, held_as: HeldAs, quantization: QuantizationConfig) -> Held:
    """Return how to load the model with bitsandbytes."""
    section = in_bits(quantization, held_as)
    identity = {
        **subject.identity,
        "quantization": section.method.value,
        "held": ["quantization_report", hashed(section, "quantization")],
    }
    return Held(model=subject.model, quantization=section, fingerprint=fingerprint(identity), num_bytes=None)


def _as_gguf(subject: Subject, held_as: HeldAs, scratch: Path) -> Iterator[Held]:
    """Write the GGUF file, yield how to load it, and delete it."""
    file = scratch / f"{subject.name}-{held_as.value}.gguf"
    section = ExportConfig(format=ExportFormat["gguf"], gguf_type=GgufType[held_as.name])
    num_bytes = export(subject.model, section, file).num_bytes
    identity = {**subject.identity, "quantization": "gguf", "held": file_fingerprint(file)}
    try:
        yield Held(
            model=replace(subject.model, path=str(file), revision=None, dtype=Dtype.float32),
            quantization=QuantizationConfig(),
            fingerprint=fingerprint(identity),
            num_bytes=num_bytes,
        )
    finally:
        file.unlink()
