"""Shows an adapter layer by layer, and compares it with another adapter."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from peft import LoraConfig

from workbench.config import Config
from workbench.errors import ConfigError
from workbench.files import read_json, write_atomic
from workbench.leaderboard.shown_table import Table
from workbench.models.adapter_facts.lora_pairs import LoraPair, lora_pairs
from workbench.models.adapter_facts.subspaces import LayerAngles, compare_adapters
from workbench.models.adapters.adapter_config import CONFIG_FILE, read_config, read_weights
from workbench.models.checkpoints.hub import locate_adapter
from workbench.pipeline.inspection.origin import origin_lines
from workbench.pipeline.inspection.picture import bars, grid, picture_svg
from workbench.pipeline.run_state import Run

log = logging.getLogger("workbench")


def adapter_info(run: Run) -> None:
    """Print facts and norms of the adapter at `adapter.path`, and compare `adapter_info.other` with it.

    With `adapter_info.picture`, the norms are also drawn into this SVG file.

    Raises:
        ConfigError: `adapter.path` is missing, or the two adapters have no layer in common.
        CheckpointError: An adapter can't be read, or one of two is not a LoRA.
    """
    config = run.config
    path = config.adapter.path
    if path is None:
        raise ConfigError("adapter.path: not given (the folder or hub id of an adapter)")
    for line in facts(path):
        log.info("%s", line)
    rows = grid(norms(path))
    if config.adapter_info.picture:
        write_atomic(
            Path(config.adapter_info.picture), picture_svg(rows, f"Norm of each layer's update, {path}")
        )
        log.info("adapter-info: picture in %s", config.adapter_info.picture)
    print(norm_table(path, rows).text(), flush=True)
    if config.adapter_info.other:
        print(angle_table(config, compare(path, config.adapter_info.other)).text(), flush=True)


def facts(path: str) -> Iterator[str]:
    """Yield lines about the adapter at `path` (folder or hub id): method, settings, size, dtypes, origin.

    Raises:
        CheckpointError: The adapter can't be read.
    """
    config, weights = read_config(path), read_weights(path)
    method = getattr(config.peft_type, "value", config.peft_type)
    numbers = sum(tensor.numel() for tensor in weights.values())
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights.values()})
    names = ("r", "lora_alpha", "use_rslora", "use_dora", "lora_bias")
    settings = {name: getattr(config, name, None) for name in names}
    told = ", ".join(f"{name}={value}" for name, value in settings.items() if value)
    yield f"{method}{': ' + told if told else ''}; {numbers:,} numbers in {', '.join(dtypes)}"
    if saved := getattr(config, "modules_to_save", None):
        yield f"saved whole: {', '.join(sorted(saved))}"
    yield from origin_lines(path, read_json(locate_adapter(path) / CONFIG_FILE))


def norms(path: str) -> dict[str, float]:
    """Return module name -> Frobenius norm of its weight update, for each layer of the adapter at `path`.

    `path` is a folder or hub id. For methods other than LoRA, the norm is that of all the layer's adapter
    tensors.

    Raises:
        CheckpointError: There is no adapter at `path`, or it is damaged.
    """
    if isinstance(read_config(path), LoraConfig):
        return {pair.module: pair.norm for pair in lora_pairs(path)}
    squares: dict[str, float] = {}
    for key, tensor in read_weights(path).items():
        module = key.removeprefix("base_model.model.").rpartition(".")[0]
        module = module.rpartition(".")[0] if module.rpartition(".")[2][:1].isupper() else module
        squares[module] = squares.get(module, 0.0) + float(tensor.double().square().sum())
    return {module: math.sqrt(value) for module, value in squares.items()}


def magnitudes(pairs: Sequence[LoraPair]) -> list[float]:
    """Return the smallest and the largest DoRA magnitude of each layer, as one list; [] without DoRA."""
    held = [pair.magnitude for pair in pairs if pair.magnitude is not None]
    return [float(value) for values in held for value in (values.min(), values.max())]


def bias_norms(pairs: Sequence[LoraPair]) -> list[float]:
    """Return the norm of each layer's bias (lora_bias), times the layer's scale; [] without biases."""
    return [pair.scale * float(pair.bias.double().norm()) for pair in pairs if pair.bias is not None]


VECTORS = {"magnitude": magnitudes, "bias": bias_norms}
NOTES = {
    "magnitude": "magnitude: DoRA scales each output until its weight, base and update, has this norm; "
    "norm is that of the update before.",
    "bias": "bias: norm of what is added to each output (lora_bias); norm doesn't count it.",
}
"""Optional column of the table of norms -> the note below the table that explains it."""


def norm_table(path: str, rows: Mapping[str, Sequence[float | None]]) -> Table:
    """Return a table with a line for each kind of module, such as q_proj.

    Its columns: rank, scale, norms, and a bar for each layer.

    Args:
        path: Folder or hub id of the adapter.
        rows: Kind of module -> norm in each layer, from `grid` of `norms`.

    Raises:
        CheckpointError: There is no adapter at `path`, or it is damaged.
    """
    pairs = lora_pairs(path) if isinstance(read_config(path), LoraConfig) else []
    largest = max((value for row in rows.values() for value in row if value is not None), default=0.0)
    further = {name: lengths for name, lengths in VECTORS.items() if lengths(pairs)}
    lines = []
    for kind, row in rows.items():
        same_kind = [pair for pair in pairs if pair.module.rpartition(".")[2] == kind]
        values = [value for value in row if value is not None]
        measured = [
            _range([float(pair.rank) for pair in same_kind]),
            _range([pair.scale for pair in same_kind]),
        ]
        measured += [_range([pair.stable_rank for pair in same_kind]), _range(values)]
        vectors = [_range(lengths(same_kind)) for lengths in further.values()]
        lines.append([kind, str(len(values)), *measured, *vectors, bars(row, largest)])
    notes = ["stable rank: |update|² / largest singular value², how many directions carry the update."]
    notes += [NOTES[name] for name in further]
    header = [
        "module",
        "layers",
        "rank",
        "scale",
        "stable rank",
        "norm",
        *further,
        f"norm by layer (█ = {largest:.3g})",
    ]
    return Table(title="", header=header, rows=lines, notes=notes if pairs else [])


def _range(values: Sequence[float]) -> str:
    """Format the smallest and the largest value, as in `1 to 8`; empty without values."""
    if not values:
        return ""
    texts = dict.fromkeys(f"{value:.3g}" for value in (min(values), max(values)))
    return " to ".join(texts)


def compare(first: str, second: str) -> list[LayerAngles]:
    """Compare two LoRAs (folders or hub ids) by layer: the cosine and the principal angles of their updates.

    Only layers that both have are compared.

    Raises:
        CheckpointError: One can't be read, or is not a LoRA.
        ConfigError: They have no layer in common.
    """
    compared = compare_adapters(lora_pairs(first), lora_pairs(second))
    if not compared:
        raise ConfigError(
            f"adapter_info.other: {second!r} updates no layer of the same name and size as {first!r} does"
        )
    return compared


def angle_table(config: Config, compared: Sequence[LayerAngles]) -> Table:
    """Return a table with a line for each kind of module, such as q_proj.

    Its columns: cosine, angles and overlap of the two adapters' updates.

    Args:
        config: The configuration, which names the adapters.
        compared: The layers, from `compare`.
    """
    kinds: dict[str, list[LayerAngles]] = {}
    for layer in compared:
        kinds.setdefault(layer.module.rpartition(".")[2], []).append(layer)
    lines = []
    for kind, layers in kinds.items():
        by_layer = grid({layer.module: layer.overlap for layer in layers})[kind]
        ranks = sorted({f"{first} and {second}" for first, second in (layer.ranks for layer in layers)})
        lines.append(
            [
                *(kind, str(len(layers)), ", ".join(ranks[:3]), _range([layer.cosine for layer in layers])),
                *(
                    _degrees([layer.read_angles for layer in layers]),
                    _degrees([layer.write_angles for layer in layers]),
                ),
                *(
                    _range([layer.overlap for layer in layers]),
                    bars([_known(value) for value in by_layer], 1.0),
                ),
            ]
        )
    header = [
        "module",
        "layers",
        "ranks",
        "cosine",
        "read, degrees",
        "write, degrees",
        "overlap",
        "overlap by layer",
    ]
    notes = [
        "read, write: principal angles between what the adapters read and write, smallest to largest;",
        "overlap: mean cos² of these angles, 1 if one subspace contains the other. Random ones have about "
        "the larger rank / the dimension.",
    ]
    return Table(
        title=f"\n{config.adapter.path} and {config.adapter_info.other}",
        header=header,
        rows=lines,
        notes=notes,
    )


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _degrees(angles: Sequence[Sequence[float]]) -> str:
    values = [angle for layer in angles for angle in layer]
    return f"{min(values):.0f} to {max(values):.0f}" if values else ""
