"""Prepares loading a model in a number format: unquantized, in 8 or 4 bits, or from a GGUF file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from workbench.config import QuantizationConfig
from workbench.config.history import hashed
from workbench.config.inspection.quantization_report import NumberFormat
from workbench.config.model import Dtype, ModelConfig
from workbench.config.publishing.export import ExportConfig, ExportFormat, GgufType
from workbench.models.export import export
from workbench.pipeline.inspection.quantization_ways import BITSANDBYTES, GGUF, in_bits
from workbench.pipeline.quantization_report.subject import Subject
from workbench.run_dir import file_fingerprint, fingerprint


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """Settings to load a model in one number format, and the fingerprint that its answers depend on."""

    model: ModelConfig
    quantization: QuantizationConfig
    fingerprint: str
    num_bytes: int | None
    """Size of the weights in the GGUF file; None: the size is measured on the loaded model."""


@contextmanager
def in_format(
    subject: Subject, number_format: NumberFormat, quantization: QuantizationConfig, scratch: Path
) -> Iterator[StoredModel]:
    """Yield the settings to load a model in one number format.

    For a GGUF format, the file is written first, and deleted after the `with` block.

    Args:
        subject: The model.
        number_format: The number format.
        quantization: Settings of bitsandbytes, apart from the method.
        scratch: Folder for the GGUF file.
    """
    if number_format in GGUF:
        yield from _as_gguf(subject, number_format, scratch)
    elif number_format in BITSANDBYTES:
        yield _in_few_bits(subject, number_format, quantization)
    else:
        model, own = subject.whole
        yield StoredModel(
            model=model, quantization=own, fingerprint=fingerprint(subject.identity), num_bytes=None
        )


def _in_few_bits(
    subject: Subject, number_format: NumberFormat, quantization: QuantizationConfig
) -> StoredModel:
    """Return the settings to load the model in 8 or 4 bits, with bitsandbytes."""
    section = in_bits(quantization, number_format)
    identity = {
        **subject.identity,
        "quantization": section.method.value,
        "held": ["quantization_report", hashed(section, "quantization")],
    }
    return StoredModel(
        model=subject.model, quantization=section, fingerprint=fingerprint(identity), num_bytes=None
    )


def _as_gguf(subject: Subject, number_format: NumberFormat, scratch: Path) -> Iterator[StoredModel]:
    """Write the GGUF file, yield the settings to load it, and delete it."""
    file = scratch / f"{subject.name}-{number_format.value}.gguf"
    section = ExportConfig(format=ExportFormat["gguf"], gguf_type=GgufType[number_format.name])
    num_bytes = export(subject.model, section, file).num_bytes
    identity = {**subject.identity, "quantization": "gguf", "held": file_fingerprint(file)}
    try:
        yield StoredModel(
            model=replace(subject.model, path=str(file), revision=None, dtype=Dtype.float32),
            quantization=QuantizationConfig(),
            fingerprint=fingerprint(identity),
            num_bytes=num_bytes,
        )
    finally:
        file.unlink()
