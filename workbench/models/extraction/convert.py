"""Converts an adapter of any method into the LoRA that is closest to what it does to the base's weights."""

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftType
from torch import Tensor

from workbench.config.inspection.extract import ExtractConfig
from workbench.config.model import ModelConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import CheckpointError, ConfigError, first_line
from workbench.files import write_json
from workbench.folders import new_folder
from workbench.models.adapters import adapter_config, provenance
from workbench.models.adapters.targets import check_base
from workbench.models.checkpoints.checkpoint import BROKEN
from workbench.models.checkpoints.hub import locate_adapter
from workbench.models.checkpoints.model_folder import ModelFolder, canonical, is_embedding, open_base
from workbench.models.combining.combine_adapters import COPIED
from workbench.models.device import torch_device
from workbench.models.diagnosis.adapter_layers import AdapterLayers, adapter_layers
from workbench.models.diagnosis.adapter_tensors import ROOT
from workbench.models.diagnosis.examine import base_weight
from workbench.models.diagnosis.rounding import rounding_noise
from workbench.models.dtypes import dtype_name
from workbench.models.extraction.decompose import Extracted, closest
from workbench.models.extraction.extract import check_layers
from workbench.models.extraction.lora_folder import Extraction, write_lora
from workbench.models.loading import outline, read_config
from workbench.models.merging.adapter_updates import NotStreamable
from workbench.models.merging.job import MergeJob
from workbench.models.merging.tensor_plan import quantized_weights
from workbench.progress import Progress
from workbench.reading_once import reading_once
from workbench.weights.as_trained import Quantized, as_trained

CONVERTED_FROM = "converted_from.json"
"""File in a converted adapter's folder: the adapter that it was converted from, and the share of each layer's
change that the LoRA represents."""
SCHEMA_VERSION = 1
_LOW_RANK = "LORA LOHA LOKR MISS HIRA VERA PVERA RANDLORA VBLORA ADALORA GRALORA DELORA GLORA DEFT"
_SCALING_OR_ROTATION = "IA3 OFT BOFT HRA ROAD FOURIERFT WAVEFT C3A"
ALONE = {PeftType[name] for name in f"{_LOW_RANK} {_SCALING_OR_ROTATION}".split()}
"""Methods whose layers peft can merge one by one, from the adapter's file and the layer's weight."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """An adapter, and the base that it was trained on."""

    model: ModelConfig
    quantization: QuantizationConfig
    """As for training: the adapter's change of a weight is computed from the quantized weight."""
    adapter_path: str
    """Folder or hub id."""
    accepts_base: bool = False
    """Whether the base may be another one than that of the training."""


@reading_once()  # the base is hashed for the check and for the record
def convert(source: Source, config: ExtractConfig, folder: Path) -> Extraction:
    """Write the LoRA that is closest to what an adapter does to the base, and return its layers and weights.

    Modules that the adapter trained as a whole are copied. One layer's weight is in memory at a time.

    Args:
        source: Adapter and base.
        config: Section `extract` of the configuration.
        folder: Adapter folder to write; an existing one is replaced as a whole, or after an error not at all.

    Raises:
        CheckpointError: The adapter doesn't fit the base, does nothing, or does something that no LoRA can
            do.
        ConfigError: The base has random weights, or the training's quantization can't be reproduced.
        DeviceError: `model.device` is CUDA, which this machine lacks.
    """
    dtype = read_config(source.model)[1]
    base, adapter = open_adapter(source, dtype)
    quantized = _quantized(source, dtype)
    extraction = Extraction(whole_weights=_kept(source.adapter_path, base, adapter))
    device = torch_device(source.model.device)
    with Progress("extract", len(adapter.tensors.modules), unit="layers") as bar:
        for name in adapter.tensors.modules:
            weight = as_trained(_stored(name, base), dtype, quantized.get(name), device)
            if layer := _converted(name, weight, base, adapter, config):
                extraction.layers.append(layer)
            bar.advance(1)
    if not extraction.layers:
        raise CheckpointError(f"{source.adapter_path}: changes no weight of a layer (is it untrained?)")
    with new_folder(folder) as temporary:
        _write(source, extraction, temporary, dtype_name(dtype))
    return extraction


def open_adapter(source: Source, dtype: torch.dtype | None = None) -> tuple[ModelFolder, AdapterLayers]:
    """Open base and adapter, and check that the adapter can be converted.

    Args:
        source: Adapter and base.
        dtype: Dtype of the base, which is compared with that of the training, as is the quantization; None:
            neither is compared.

    Raises:
        ConfigError: The base has random weights.
        CheckpointError: The adapter belongs to another base, is damaged, or does something that no LoRA can
            do.
    """
    path, model = source.adapter_path, source.model
    kind = adapter_config.read_config(path).peft_type
    check_base(model)
    provenance.check_not_contained(model.path, path)
    held = None if dtype is None else source.quantization
    name = "" if dtype is None else dtype_name(dtype)
    provenance.check_base_of(path, model, held, name, accepts=source.accepts_base)
    if kind not in ALONE:
        raise CheckpointError(
            f"{path}: {getattr(kind, 'value', kind)} can't be converted layer by layer (merge it with "
            "recipe=merge merge.dtype=float32, then extract from that: recipe=extract merged.path=MERGED)"
        )
    base = open_base(model.path, model.revision)
    check_layers(base)
    adapter = adapter_layers(path, base)
    if problem := _problem(adapter):
        raise CheckpointError(f"{path}: {problem}")
    _kept(path, base, adapter)
    return base, adapter


def _problem(adapter: AdapterLayers) -> str:
    """Return what keeps an adapter from being converted; empty: nothing."""
    tensors = adapter.tensors
    if tensors.unknown:
        return f"{tensors.unknown[0]} fits no layer of the base (was it trained on another model?)"
    if adapter.missing:
        return f"{adapter.missing[0]} is missing (a damaged file?)"
    if tensors.rows:
        return f"trains rows of {next(iter(tensors.rows))}, which can't be kept beside the LoRA (merge it)"
    if not tensors.modules:
        return "changes no matrix of a layer, so there is nothing to convert to a LoRA"
    return ""


def _kept(path: str, base: ModelFolder, adapter: AdapterLayers) -> dict[str, Tensor]:
    """Return the weights that the adapter has in place of the base's, by their names in its file.

    Raises:
        CheckpointError: They are part of a module only, as biases are, which peft can't save alone.
    """
    names = {
        name: file_name.removeprefix(ROOT)
        for file_name in adapter_config.read_weights(path)
        if (name := canonical(file_name.removeprefix(ROOT))) in adapter.tensors.replaced
    }
    for name in names:
        module = name.rpartition(".")[0]
        parts = {other for other in base.tensors if other.rpartition(".")[0] == module}
        if f"{module}.weight" in adapter.tensors.modules or parts - names.keys():
            raise CheckpointError(
                f"{path}: trains {names[name]} without the rest of its module, which a LoRA can't hold "
                "(merge it)"
            )
    return {file_name: adapter.tensors.replaced[name] for name, file_name in names.items()}


def _quantized(source: Source, dtype: torch.dtype) -> Mapping[str, Quantized]:
    """Return how the training quantized each weight, by canonical name.

    Raises:
        ConfigError: It can't be told without loading the model.
    """
    if source.quantization.method is QuantizationMethod.none:
        return {}
    job = MergeJob(
        model=source.model,
        adapter_path=source.adapter_path,
        quantization=source.quantization,
        base_dtype=dtype,
        dtype=torch.float32,
        batches=[],
    )
    empty = outline(source.model, adapter_config.num_labels(source.adapter_path))
    try:
        quantized = quantized_weights(empty, job)
    except NotStreamable as reason:
        raise ConfigError(f"quantization.method: the conversion can't reproduce {reason}") from reason
    return {canonical(name): how for name, how in quantized.items()}


def _stored(name: str, base: ModelFolder) -> Tensor:
    """Return a weight of the base's file; that of a tied head is the embedding's.

    Raises:
        CheckpointError: It is stored quantized.
    """
    stored = base_weight(name, base)
    assert stored is not None
    if not stored.is_floating_point():
        raise CheckpointError(f"{base.path}: {name} is quantized (take the unquantized model)")
    return stored


def _converted(
    name: str, weight: Tensor, base: ModelFolder, adapter: AdapterLayers, config: ExtractConfig
) -> Extracted | None:
    """Return the LoRA of one weight; None if the adapter doesn't change it.

    Raises:
        CheckpointError: The result isn't finite, or the layer's bias changes, too.
    """
    module = adapter.tensors.modules[name]
    try:
        merged = adapter.merged(name, weight)
        bias = base.tensors.get(f"{name.removesuffix('weight')}bias")
        changes_bias = bias is not None and adapter.changes_bias(name, weight, bias[...].float())
    except BROKEN as error:
        raise CheckpointError(f"{module}: peft can't merge the adapter: {first_line(error)}") from error
    if changes_bias:
        raise CheckpointError(f"{module}: the adapter changes its bias, which a LoRA can't hold (merge it)")
    difference = merged - weight
    if not bool(difference.isfinite().all()):
        raise CheckpointError(f"{module}: has NaN or infinite values with the adapter merged into it")
    if not bool(difference.any()):
        return None
    rows, columns = difference.shape
    rounding = math.sqrt(rounding_noise(merged, torch.float32) / difference.numel())
    return closest(
        module,
        difference,
        config,
        base_norm=float(weight.norm()),
        floor=rounding * (math.sqrt(rows) + math.sqrt(columns)),
        is_embedding=is_embedding(name),
    )


def _write(source: Source, extraction: Extraction, folder: Path, dtype: str) -> None:
    """Write the adapter, the files that go with it, its base's record, and what it was made of."""
    path = source.adapter_path
    config = adapter_config.read_config(path)
    write_lora(extraction, folder, source.model.path, config.task_type)
    for name in (*COPIED, adapter_config.LABELS_FILE):
        if (file := locate_adapter(path) / name).is_file():
            shutil.copyfile(file, folder / name)
    provenance.write_trained_on(provenance.trained_on(source.model, source.quantization, dtype), folder)
    contents = {
        "schema_version": SCHEMA_VERSION,
        "name": "/".join(Path(path).parts[-2:]),
        "method": getattr(config.peft_type, "value", config.peft_type),
        "energy_kept": extraction.energy_kept,
        "layers": {layer.name: layer.facts() for layer in extraction.layers},
    }
    write_json(folder / CONVERTED_FROM, contents)
