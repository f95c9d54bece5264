"""Writes a LoRA as a GGUF file that llama.cpp adds to the base model's GGUF file."""

import math
import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from gguf import GGMLQuantizationType, GGUFType, GGUFWriter, Keys
from gguf.quants import quantize
from torch import Tensor

from workbench.config.model import ModelConfig
from workbench.config.publishing.export import ExportConfig, GgufType
from workbench.errors import CheckpointError
from workbench.files import clear_the_way
from workbench.models.adapters import adapter_config
from workbench.models.checkpoints.model_folder import base_weights
from workbench.models.checkpoints.stable_embedding import HEAD
from workbench.models.combining.lora_factors import Factors, read_lora
from workbench.models.export import ExportReport, check_export, gguf_outline
from workbench.models.gguf.reader import interleaved_heads
from workbench.models.gguf.writer import FILE_TYPES, FLOAT16_MAX, MARK, gguf_name, interleaved
from workbench.run_dir import check_folder, part_of

TYPES = (GgufType.f32, GgufType.f16, GgufType.bf16)
"""Number formats of a LoRA's matrices; the others, which have blocks, become float32."""


class _Written(NamedTuple):
    """Matrices of one layer as they are in the file."""

    name: str
    down: Tensor
    up: Tensor


def export_lora(model: ModelConfig, adapter: Path, export: ExportConfig, path: Path) -> ExportReport:
    """Write the LoRA at `adapter` as a GGUF file for llama.cpp, which adds it to the base's GGUF file.

    After an error nothing is written, and an earlier export stays.

    Args:
        model: The base model, of which the configuration and the shapes are read.
        adapter: Folder or hub id of the adapter.
        export: Section `export`.
        path: File to write; an earlier export is replaced.

    Raises:
        ConfigError: GGUF doesn't support the base, or `path` is something other than an export.
        CheckpointError: The adapter is damaged, doesn't fit the base, isn't a plain LoRA, or is on an
            embedding or tied head.
        DeviceError: `model.device` is CUDA, which this machine lacks.
        DataError: There is a folder in the place of the temporary file.
    """
    check_folder("export.path", path.parent)
    check_export(model, export, path)
    lora = read_lora(str(adapter), "export.format", "written as gguf-lora")
    adapter_config.check_copies(adapter, base_weights(model.path, model.revision))
    config, shapes = gguf_outline(model)
    heads = interleaved_heads(config.model_type, config.num_attention_heads, config.num_key_value_heads)
    alpha = _common_alpha(lora.layers)
    layers = []
    for name, factors in lora.layers.items():
        _check_layer(name, factors, shapes, adapter)
        up = interleaved(factors.up, heads.get(name.rpartition(".")[2], 0))
        scaled = up if alpha else up * factors.scale
        layers.append(_Written(gguf_name(f"{name}.weight"), factors.down, scaled))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = clear_the_way(part_of(path))
    number_type = export.number_type if export.number_type in TYPES else GgufType.f32
    try:
        size = _write(temporary, config.model_type, alpha, layers, number_type)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return ExportReport(format=export.format.value, num_tensors=2 * len(layers), num_bytes=size, folded=False)


def _common_alpha(layers: Mapping[str, Factors]) -> float:
    """Return the alpha by which llama.cpp's alpha / rank is the scale of all layers; 0: there is none.

    llama.cpp then takes 1 as the scale, and the layers' own scales are multiplied into B. That is so for
    rsLoRA with unequal ranks, and for an alpha_pattern.
    """
    alphas = [factors.scale * factors.rank for factors in layers.values()]
    return alphas[0] if all(math.isclose(alpha, alphas[0], rel_tol=1e-6) for alpha in alphas) else 0.0


def _check_layer(name: str, factors: Factors, shapes: Mapping[str, tuple[int, ...]], adapter: Path) -> None:
    """Check that the base's GGUF file has the layer as a matrix of the right shape.

    Raises:
        CheckpointError: It hasn't.
    """
    weight = f"{name}.weight"
    shape = (factors.up.shape[0], factors.down.shape[1])
    is_tied_head = weight == HEAD and weight not in shapes
    if factors.is_embedding or is_tied_head:
        reason = "shares the embedding's weight" if is_tied_head else "is an embedding"
        raise CheckpointError(
            f"export.format: {str(adapter)!r} can't be written as gguf-lora: {name} {reason} (merge it, and "
            "write gguf)"
        )
    if tuple(shapes.get(weight, ())) != shape:
        known = list(shapes[weight]) if weight in shapes else "no such layer"
        raise CheckpointError(
            f"{adapter}: does not fit the base: {name} is {list(shape)}, and the base has {known} (was it "
            "trained on another model?)"
        )


def _write(file: Path, architecture: str, alpha: float, layers: list[_Written], number_type: GgufType) -> int:
    """Write the file, and return the size of its tensors in bytes.

    Raises:
        CheckpointError: A value overflows float16.
    """
    stored_as = GGMLQuantizationType[number_type.value.upper()]
    size = 0
    with closing(GGUFWriter(os.fspath(file), architecture)) as writer:
        writer.add_type(GGUFType.ADAPTER)
        writer.add_string(Keys.Adapter.TYPE, "lora")
        writer.add_float32(Keys.Adapter.LORA_ALPHA, alpha)
        writer.add_file_type(FILE_TYPES[number_type])
        writer.add_bool(MARK, True)
        for layer in layers:
            for suffix, matrix in (("lora_a", layer.down), ("lora_b", layer.up)):
                if number_type is GgufType.f16 and float(matrix.abs().max()) > FLOAT16_MAX:
                    raise CheckpointError(
                        f"export.gguf_type: {layer.name} has values beyond f16's {FLOAT16_MAX:.0f} (use f32)"
                    )
                data = quantize(matrix.contiguous().numpy(), stored_as)
                writer.add_tensor(f"{layer.name}.{suffix}", data, raw_dtype=stored_as)
                size += data.nbytes
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    return size
