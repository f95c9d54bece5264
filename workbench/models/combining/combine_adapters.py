"""Combines several LoRA adapters of one base into one, and writes an adapter folder in peft's format."""

import hashlib
import logging
import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor

from workbench.config.merge import MergeConfig
from workbench.config.model import ModelConfig
from workbench.errors import ConfigError
from workbench.models.adapters import adapter_config
from workbench.models.adapters.provenance import TRAINED_ON
from workbench.models.checkpoints import generation_config
from workbench.models.checkpoints.hub import locate_adapter
from workbench.models.combining.combine_layer import combine_layer, difference_from_sum, squared_size
from workbench.models.combining.compatible import check_compatible
from workbench.models.combining.lora_factors import PREFIX, SUFFIXES, Factors, LoraAdapter, read_lora
from workbench.models.tokenizers.load_tokenizer import READ
from workbench.progress import Progress
from workbench.run_dir import new_folder, write_json

log = logging.getLogger("workbench")

REPORT_FILE = "combination.json"
SCHEMA_VERSION = 1
NOTHING = 1e-12
"""A combination whose squared size, relative to that of its adapters, is at most this counts as zero."""
COPIED = (*(name for name in READ if name != "config.json"), generation_config.FILE)
"""Files of the first adapter that are copied to the combination: tokenizer, chat template and end tokens."""


@dataclass(frozen=True, kw_only=True)
class CombinedPart:
    """One of the combined adapters, as combination.json records it."""

    path: str
    """As in `merge.adapters`."""
    weight: float
    """Factor on its updates."""
    fingerprint: str
    num_layers: int
    """Number of layers that it adapts."""


@dataclass(frozen=True, kw_only=True)
class Combination:
    """Content of combination.json: the combined adapters, and the result's distance from a weighted sum."""

    schema_version: int
    method: str
    density: float | None
    """Share of values that a pruning method keeps; None with other methods."""
    seed: int | None
    """Seed of the values that dare drops; None with other methods."""
    adapters: list[CombinedPart]
    num_layers: int
    """Number of layers in the combination."""
    rank: int
    """Largest rank of any layer."""
    difference: float | None
    """|C - S| / |S| over all layers, for the combination C and the weighted sum S of the updates; None if
    S is 0."""


def combine_adapters(
    model: ModelConfig | None, merge: MergeConfig, folder: Path, *, accepts_base: bool = False
) -> Combination:
    """Write the combination of `merge.adapters` to `folder`, as plain LoRA with the scale 1.

    Args:
        model: The base, whose layers the adapters must fit; None: the fit is not checked.
        merge: Section `merge` of the configuration.
        folder: Adapter folder to write or replace, with combination.json and the first adapter's tokenizer.
        accepts_base: Whether adapters may have been trained on different bases.

    Returns:
        The content of combination.json.

    Raises:
        CheckpointError: An adapter can't be read or combined, or the adapters are of different bases.
        ConfigError: The method doesn't fit the adapters' ranks, or the combination is zero.
    """
    adapters = [read_lora(entry.path) for entry in merge.adapters]
    check_compatible(adapters, merge, model, accepts_base=accepts_base)
    weights = [entry.weight for entry in merge.adapters]
    combined, difference = _combined_layers(adapters, weights, merge)
    report = Combination(
        schema_version=SCHEMA_VERSION,
        method=merge.combination.value,
        density=merge.density,
        seed=merge.seed if merge.combination.is_random else None,
        adapters=[
            CombinedPart(
                path=adapter.path,
                weight=weight,
                fingerprint=adapter_config.fingerprint(adapter.path),
                num_layers=len(adapter.layers),
            )
            for adapter, weight in zip(adapters, weights, strict=True)
        ],
        num_layers=len(combined),
        rank=max(layer.rank for layer in combined.values()),
        difference=difference,
    )
    with new_folder(folder) as temporary:
        _save(combined, adapters, temporary)
        write_json(temporary / REPORT_FILE, asdict(report))
    return report


def _combined_layers(
    adapters: Sequence[LoraAdapter], weights: Sequence[float], merge: MergeConfig
) -> tuple[dict[str, Factors], float | None]:
    """Combine the adapters layer by layer; return the layers, and |C - S| / |S| (see `Combination`).

    Raises:
        ConfigError: The combination is zero everywhere.
    """
    names = sorted({name for adapter in adapters for name in adapter.layers})
    combined: dict[str, Factors] = {}
    difference = total = size = largest = 0.0
    with Progress(f"combine by {merge.combination.value}", len(names), unit="layers") as progress:
        for name in names:
            factors = [adapter.layers.get(name) for adapter in adapters]
            combined[name] = combine_layer(
                factors,
                weights,
                merge.combination,
                rank=merge.rank,
                density=merge.density,
                seed=layer_seed(merge.seed, name),
            )
            squared_difference, squared_sum = difference_from_sum(factors, weights, combined[name])
            difference, total = difference + squared_difference, total + squared_sum
            size += squared_size(combined[name])
            largest += max(squared_size(layer) for layer in factors if layer is not None)
            progress.advance(1)
    if size <= NOTHING * largest:
        raise ConfigError(
            f"merge.adapters: their combination by {merge.combination.value} is zero, so it would do nothing "
            "(choose other weights, or a larger merge.density)"
        )
    return combined, math.sqrt(difference / total) if total > NOTHING * largest else None


def layer_seed(seed: int, name: str) -> int:
    """Return the random seed for one layer, from a hash of `seed` and the layer's name."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4])


def _save(combined: Mapping[str, Factors], adapters: Sequence[LoraAdapter], folder: Path) -> None:
    """Write tensors and configuration, and copy the first adapter's tokenizer and a record of the base."""
    save_file(_tensors(combined), folder / adapter_config.WEIGHTS_FILE, metadata={"format": "pt"})
    _config(combined, adapters).save_pretrained(str(folder))
    adapter_config.tidy_config(folder / adapter_config.CONFIG_FILE, adapters[0].base_name)
    source = locate_adapter(adapters[0].path)
    for name in COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    folders = (locate_adapter(adapter.path) for adapter in adapters)
    if record := next(
        (file for source_folder in folders if (file := source_folder / TRAINED_ON).is_file()), None
    ):
        shutil.copyfile(record, folder / TRAINED_ON)


def _tensors(combined: Mapping[str, Factors]) -> dict[str, Tensor]:
    """Return the matrices A and B of all layers under their names in peft's file."""
    ends = {key: end for end, key in SUFFIXES.items()}
    return {
        f"{PREFIX}{name}{ends[layer.is_embedding, kind]}": getattr(layer, kind)
        for name, layer in combined.items()
        for kind in ("down", "up")
    }


def _config(combined: Mapping[str, Factors], adapters: Sequence[LoraAdapter]) -> LoraConfig:
    """Return a LoraConfig with exactly these layers and ranks, and alpha = rank, so that the scale is 1."""
    ranks = {name: layer.rank for name, layer in combined.items()}
    [(rank, _)] = Counter(ranks.values()).most_common(1)
    others = {name: layer_rank for name, layer_rank in ranks.items() if layer_rank != rank}
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=list(ranks),
        rank_pattern=dict(others),
        alpha_pattern=dict(others),
        task_type=adapters[0].task_type,
    )
    config.inference_mode = True
    return config
