"""Records the base that an adapter was trained on, and the adapters that were merged into a model.

Checks both records when an adapter is attached or merged.
"""

import logging
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workbench.config.model import ModelConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import CheckpointError
from workbench.files import local_path
from workbench.models.adapters import adapter_config
from workbench.models.adapters.targets import check_base
from workbench.models.checkpoints.hub import HUB_ID, locate, locate_adapter
from workbench.models.checkpoints.state_dict import read_json_object
from workbench.models.checkpoints.weights_fingerprint import weights_fingerprint
from workbench.run_dir import RunDir, file_fingerprint, write_json
from workbench.run_record import RunRecord
from workbench.weights.file_tensors import file_tensors, tensors_fingerprint

TRAINED_ON = "trained_on.json"
"""File in an adapter's folder that describes the base of its training."""
MERGED_FROM = "merged_from.json"
"""File in a model's folder that describes its base and the adapters that were merged into it."""
SCHEMA_VERSION = 1
HELD = ("fingerprint", "quantization", "dtype")
"""Fields of TRAINED_ON that determine the base's weights as the adapter's training computed with them."""
CACHED = re.compile(r"models--([\w.-]+)--([\w.-]+)")
"""Pattern of a model's folder in the Hub's cache; the groups are its owner and name."""
ACCEPT = "adapter.base=accept goes on nevertheless"

log = logging.getLogger("workbench")


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """The base that an adapter was trained on, with its quantization and dtype during the training."""

    schema_version: int = SCHEMA_VERSION
    name: str
    """Hub id, or the last part of the path; the rest of a path isn't published."""
    hub_id: str | None
    """Hub id if it is known: of a download, or as the folder's config.json names it."""
    fingerprint: str
    """Fingerprint of the unquantized weights, from `weights_fingerprint`."""
    dtype: str
    quantization: dict[str, Any] = field(default_factory=dict)
    """Settings that determine the quantized weights; empty if the base isn't quantized."""


def trained_on(model: ModelConfig, quantization: QuantizationConfig, dtype: str) -> TrainedOn:
    """Describe the base of a training in `dtype`; its weight files are read. Errors: as in `hub_id`."""
    return TrainedOn(
        name=_base_name(model),
        hub_id=hub_id(model),
        fingerprint=weights_fingerprint(model),
        dtype=dtype,
        quantization=quantization_facts(quantization),
    )


def quantization_facts(quantization: QuantizationConfig) -> dict[str, Any]:
    """Return `method`, `skip_modules` and, in 4 bits, `double_quant`; empty without quantization."""
    method = quantization.method
    if method is QuantizationMethod.none:
        return {}
    facts: dict[str, Any] = {"method": method.value, "skip_modules": sorted(quantization.skip_modules)}
    return (
        facts if method is QuantizationMethod.int8 else {**facts, "double_quant": quantization.double_quant}
    )


def write_trained_on(facts: TrainedOn, folder: Path) -> None:
    """Write the description of an adapter's base as trained_on.json into the adapter's folder."""
    write_json(folder / TRAINED_ON, asdict(facts))


def read_trained_on(adapter_path: str | Path) -> dict[str, Any] | None:
    """Read the fields of TrainedOn of an adapter, a folder or hub id; None: another tool made the adapter.

    Raises:
        CheckpointError: There is nothing at the path, or the file is damaged.
    """
    return _read(locate_adapter(adapter_path) / TRAINED_ON, ("fingerprint", "dtype"))


def contained(model_path: str | Path | None) -> list[dict[str, Any]]:
    """Return the `name`, `fingerprint` and `tensors` of each adapter in a model folder's merged_from.json.

    These adapters were merged into the model. [] if there is no such file or no path.

    Raises:
        CheckpointError: merged_from.json is damaged.
    """
    record = _read(Path(model_path) / MERGED_FROM, ()) if model_path else None
    adapters = record.get("adapters") if record is not None else []
    if not isinstance(adapters, list) or not all(isinstance(entry, dict) for entry in adapters):
        raise CheckpointError(f"{model_path}/{MERGED_FROM}: 'adapters' is not a list of objects")
    return adapters


def merge_record(
    base: TrainedOn, base_path: Path, adapter_path: str | Path, unpacked: str = ""
) -> dict[str, Any]:
    """Return merged_from.json of a merged model: its base, the adapters in the base, and this adapter.

    `unpacked` is the method by which the base's files are quantized, if they are unpacked. Raises a
    CheckpointError if there is no adapter at `adapter_path` (folder or hub id), or a file is damaged.
    """
    entry = {
        "name": "/".join(Path(adapter_path).parts[-2:]),
        "fingerprint": adapter_config.fingerprint(adapter_path),
        "tensors": adapter_tensors(adapter_path),
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "base": asdict(base) | ({"unpacked": unpacked} if unpacked else {}),
        "adapters": [*contained(base_path), entry],
    }


def copy_record(source: Path, folder: Path) -> None:
    """Copy merged_from.json, if `source` has it, to a folder that has the same model in another format."""
    if (source / MERGED_FROM).is_file():
        shutil.copyfile(source / MERGED_FROM, folder / MERGED_FROM)


def adapter_tensors(adapter_path: str | Path) -> str:
    """Return the SHA-256 of the tensors of an adapter (folder or hub id), or raise CheckpointError."""
    return tensors_fingerprint(file_tensors([locate_adapter(adapter_path) / adapter_config.WEIGHTS_FILE]))


def check_not_contained(model_path: str | Path | None, adapter_path: str | Path) -> None:
    """Check that an adapter wasn't merged into the model that it is to be attached to; it would act twice.

    Raises:
        CheckpointError: The model contains the adapter, or its merged_from.json is damaged.
    """
    entries = contained(model_path)
    if entries and adapter_tensors(adapter_path) in [entry.get("tensors") for entry in entries]:
        raise CheckpointError(
            f"model.path: {str(model_path)!r} already contains the adapter {str(adapter_path)!r}, which "
            "would act twice (use the merged model alone, or the adapter on its base)"
        )


def base_mismatches(
    adapter_path: str | Path, model: ModelConfig, quantization: QuantizationConfig | None, dtype: str
) -> list[str]:
    """Return a phrase for each difference between a base and the base that an adapter was trained on.

    The phrases continue a sentence about the adapter; [] if there is none. An adapter of another tool records
    only the base's name: then only the names are compared.

    Args:
        adapter_path: Folder or Hub id of the adapter.
        model: The base.
        quantization: Quantization of the base; None: neither it nor `dtype` is compared.
        dtype: Name of the base's dtype.
    """
    recorded = read_trained_on(adapter_path)
    if recorded is None:
        return _other_name(adapter_path, model)
    differences = []
    if recorded["fingerprint"] != weights_fingerprint(model):
        differences.append(
            f"was trained on {recorded.get('name')!r}, and model.path={model.path!r} has other weights"
        )
    if quantization is None:
        return differences
    trained, given = recorded.get("quantization") or {}, quantization_facts(quantization)
    if trained != given:
        differences.append(f"was trained on a base that is {_held(trained)}, and this one is {_held(given)}")
    if recorded["dtype"] != dtype:
        differences.append(f"was trained on a base in {recorded['dtype']}, and this one is in {dtype}")
    return differences


def check_base_of(
    adapter_path: str | Path,
    model: ModelConfig,
    quantization: QuantizationConfig | None,
    dtype: str,
    *,
    accepts: bool,
) -> list[str]:
    """Check that a base is the one that the adapter was trained on.

    The arguments are those of `base_mismatches`. If `accepts` is true, differences are logged and returned as
    its phrases; [] if there are none.

    Raises:
        ConfigError: The base has random weights.
        CheckpointError: The bases differ and `accepts` is false, or the adapter's run folder was changed.
    """
    check_base(model)
    adapter_config.read_config(adapter_path)  # names what is missing in a folder that isn't an adapter
    check_as_trained(adapter_path)
    differences = base_mismatches(adapter_path, model, quantization, dtype)
    if differences and not accepts:
        raise CheckpointError(f"adapter.path: {str(adapter_path)!r} {'; it '.join(differences)} ({ACCEPT})")
    for difference in differences:
        log.warning("adapter.base=accept: %s %s", adapter_path, difference)
    return differences


def check_as_trained(adapter_path: str | Path) -> None:
    """If the adapter is in the run folder that trained it, check that it is unchanged since.

    An adapter in another folder, or on the Hub, passes.

    Raises:
        CheckpointError: The adapter was changed, or there is nothing at the path.
    """
    folder = locate_adapter(adapter_path).resolve()
    run_dir = RunDir(folder.parent)
    if folder.name != run_dir.adapter.name or not run_dir.run_json.is_file():
        return
    entry = RunRecord(run_dir.run_json).values["steps"].get("train")
    if entry is not None and entry["output"] != file_fingerprint(folder):
        raise CheckpointError(
            f"{folder}: was changed since the train step wrote it (that step makes it again; to use it as it "
            "is, copy it to another folder and name that in adapter.path)"
        )


def hub_id(model: ModelConfig) -> str | None:
    """Return a model's Hub id by its folder in the cache or its config.json, else None; see `locate`."""
    path = locate(model.path, model.revision)
    if match := CACHED.search(str(path.resolve())):
        return f"{match[1]}/{match[2]}"
    if not local_path(str(model.path)).exists():
        return model.path
    config = path / "config.json"
    named = read_json_object(config).get("_name_or_path") if config.is_file() else None
    is_id = isinstance(named, str) and HUB_ID.fullmatch(named) and not local_path(named).exists()
    return named if is_id else None


def _base_name(model: ModelConfig) -> str:
    path = str(model.path)
    return Path(path).name if local_path(path).exists() else path


def _other_name(adapter_path: str | Path, model: ModelConfig) -> list[str]:
    """Compare the base's name in adapter_config.json with the names of `model.path`, by their last parts.

    Return the mismatch as a list of one phrase; empty if a name is equal, or if the file names no base.
    """
    description = read_json_object(locate_adapter(adapter_path) / adapter_config.CONFIG_FILE)
    named = description.get("base_model_name_or_path")
    if not isinstance(named, str) or not (name := _last_part(named)):
        return []
    path = locate(model.path, model.revision)
    names = {_last_part(str(model.path)), _last_part(str(path.resolve())), _last_part(hub_id(model))}
    if name in names:
        return []
    return [f"names the base {named!r}, and model.path is {model.path!r}"]


def _last_part(name: Any) -> str:
    """Return the last part of a path or Hub id in lower case.

    Of a folder in the Hub's cache, the last part of the Hub id that its name contains.
    """
    if not isinstance(name, str):
        return ""
    if match := CACHED.search(name):
        return match[2].casefold()
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2].casefold()


def _held(facts: dict[str, Any]) -> str:
    """Describe a quantization in words, as `quantized to nf4 with double_quant=True`."""
    if not facts:
        return "not quantized"
    further = [f"{name}={value}" for name, value in facts.items() if name != "method" and value]
    return f"quantized to {facts['method']}{' with ' if further else ''}{' and '.join(further)}"


def _read(file: Path, keys: tuple[str, ...]) -> dict[str, Any] | None:
    """Read TRAINED_ON or MERGED_FROM as a JSON object; None if there is no such file.

    Raises:
        CheckpointError: The file is not a JSON object with texts at these keys.
    """
    if not file.is_file():
        return None
    values = read_json_object(file)
    for key in keys:
        if not isinstance(values.get(key), str):
            raise CheckpointError(f"{file}: {key!r} is missing or not a text")
    return values
