"""Checkpoints on disk -> the configuration and the tensors of an Open-Llama, checked against each other."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import GenerationConfig, LlamaConfig, MistralConfig, PreTrainedConfig, PreTrainedModel

from workbench.errors import CheckpointError
from workbench.models import gguf, meta
from workbench.models.folding import EMBEDDING, HEAD, RECORD, unfold
from workbench.models.generation import settle_generation
from workbench.models.open_llama.configuration_open_llama import (
    LLAMA_SWITCHES,
    OpenLlamaConfig,
    inexpressible,
)
from workbench.models.quiet import quiet_transformers
from workbench.models.weights import Stored, read_folder

# Mistral without its sliding window is LLaMA under another name.
LLAMA_ARCHITECTURE: dict[str, type[PreTrainedConfig]] = {"llama": LlamaConfig, "mistral": MistralConfig}
KEPT = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "use_cache",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "tie_word_embeddings",
    "rope_parameters",
    "dtype",
    "id2label",
    "label2id",
    "problem_type",
)
SCORE = "score.weight"
SWITCHED_OFF = "stable and shared embedding off, dropouts 0"
BROKEN = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    StrictDataclassError,
)
"""What transformers and torch raise at values that no model can have."""
WHY = {
    "model.embed_layer_norm.weight": "use_stable_embedding is on in config.json",
    HEAD: "neither shared_input_output_embedding nor tie_word_embeddings is on in config.json",
    SCORE: "model.task=sequence_classification takes a classifier",
}


@dataclass
class Checkpoint:
    """A model as it lies on disk, in the words of Open-Llama; its tensors are not read yet."""

    path: Path
    origin: str
    """What it was: Open-Llama, LLaMA, ..."""
    config: OpenLlamaConfig
    note: str = ""
    """What was switched on the way."""
    record: dict[str, Any] | None = None
    """How a LLaMA folder was made from an Open-Llama; see folding.py."""
    tensors: Mapping[str, Stored] = field(default_factory=dict)
    generation: GenerationConfig | None = None

    @property
    def dtype(self) -> torch.dtype:
        """The checkpoint's own floating point type; bfloat16 for GGUF, whose blocks hold fewer bits."""
        if self.path.is_file():
            return torch.bfloat16
        if isinstance(self.config.dtype, torch.dtype):
            return self.config.dtype
        return self.tensors[EMBEDDING].dtype if EMBEDDING in self.tensors else torch.float32


def read(path: Path) -> Checkpoint:
    """The checkpoint at `path`, a folder or a `.gguf` file.

    Raises:
        CheckpointError: it is damaged, or not of this family.
    """
    checkpoint = describe(path)
    checkpoint.tensors = _renamed(_read_tensors(path))
    if checkpoint.record is not None:
        checkpoint = _unfolded(checkpoint, checkpoint.record)
    if (path / "generation_config.json").is_file():
        try:
            checkpoint.generation = GenerationConfig.from_pretrained(path)
            note = settle_generation(checkpoint.generation)
        except (*BROKEN, OSError) as error:
            raise _broken(path / "generation_config.json", error) from error
        checkpoint.note = "; ".join(filter(None, (checkpoint.note, note)))
    return checkpoint


def describe(path: Path) -> Checkpoint:
    """The checkpoint at `path` without its tensors.

    Raises:
        CheckpointError: it is damaged, or not of this family.
    """
    source = _description_file(path)
    try:
        with quiet_transformers():
            return _described(path, source)
    except BROKEN as error:
        raise _broken(source, error) from error


def _described(path: Path, source: Path) -> Checkpoint:
    """The checkpoint as its description says; see `describe`."""
    stored, origin = _read_description(path)
    kind = stored.get("model_type")
    if stored.get("pad_token_id") == -1:  # LLaMA's first checkpoints say so that they have none
        stored["pad_token_id"] = None
    if kind not in (OpenLlamaConfig.model_type, *LLAMA_ARCHITECTURE):
        raise CheckpointError(
            f"{source}: model_type {kind!r} is no LLaMA (model.architecture=native takes it as it is)"
        )
    if how := stored.get("quantization_config"):
        raise CheckpointError(f"{source}: Open-Llama can't express quantization_config={how!r} (only None)")
    if kind == OpenLlamaConfig.model_type:
        found = Checkpoint(path, "Open-Llama", OpenLlamaConfig.from_dict(stored))
    else:
        llama = LLAMA_ARCHITECTURE[str(kind)].from_dict(stored)
        found = Checkpoint(path, origin, _from_llama(source, llama), SWITCHED_OFF, stored.get(RECORD))
    dtype = found.config.dtype
    if isinstance(dtype, torch.dtype) and not dtype.is_floating_point:
        raise CheckpointError(f"{source}: dtype {str(dtype)!r} is no floating point type")
    return found


def _description_file(path: Path) -> Path:
    """The file that describes the model."""
    if path.is_file():
        return path
    return path / (meta.PARAMETERS if meta.is_meta(path) else "config.json")


def _read_description(path: Path) -> tuple[dict[str, Any], str]:
    """What the description says in transformers' words, and what a LLaMA came as."""
    if path.is_file():
        return gguf.read_config(path), "LLaMA, GGUF"
    if meta.is_meta(path):
        return meta.read_config(path), "LLaMA, Meta's files"
    return read_json_object(path / "config.json"), "LLaMA"


def _read_tensors(path: Path) -> Mapping[str, Stored]:
    """The tensors as they are stored."""
    if path.is_file():
        return gguf.read_tensors(path)
    return meta.read_tensors(path) if meta.is_meta(path) else read_folder(path)


def _unfolded(checkpoint: Checkpoint, record: dict[str, Any]) -> Checkpoint:
    """The Open-Llama that a LLaMA folder was made from, as far as its tensors are still determined.

    Raises:
        CheckpointError: the record in config.json is damaged.
    """
    try:
        config, tensors, note = unfold(checkpoint.config, record, checkpoint.tensors)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{checkpoint.path}/config.json: the record {RECORD!r} is damaged") from error
    return replace(checkpoint, config=config, tensors=tensors, note=note or "switches as recorded")


def read_json_object(file: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint.

    Raises:
        CheckpointError: the file can't be read, or holds something else.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(file, error) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: not a JSON object")
    return value


def _broken(file: Path, error: Exception) -> CheckpointError:
    """What is wrong with a file of the checkpoint, in one line."""
    said = str(error.args[0]) if isinstance(error, KeyError) else str(error) or type(error).__name__
    if isinstance(error, ZeroDivisionError):
        said = f"num_attention_heads, or another number that divides, is 0 ({said})"
    elif isinstance(error, TypeError | AttributeError | IndexError):
        said = f"a value is of the wrong kind ({said})"
    elif said.isidentifier():
        said = f"{said!r} is missing or unknown"
    return CheckpointError(f"{file}: {' '.join(said.split()).removeprefix('config.json: ').rstrip('.')}")


def _from_llama(source: Path, llama: PreTrainedConfig) -> OpenLlamaConfig:
    """The Open-Llama configuration that computes exactly what this LLaMA does: its four switches off.

    Raises:
        CheckpointError: a field that Open-Llama can't express.
    """
    if reason := inexpressible(llama):
        raise CheckpointError(f"{source}: {reason}; model.architecture=native takes what transformers can")
    fields: dict[str, Any] = {name: getattr(llama, name) for name in KEPT}
    fields |= {**LLAMA_SWITCHES, "attention_dropout_prob": llama.attention_dropout}
    return OpenLlamaConfig(**fields)


def _renamed(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """The tensors under the names of a model with a head, without the rotary tables of 4.31's files."""
    prefix = "" if any(name.startswith("model.") for name in tensors) else "model."
    heads = (HEAD, SCORE)
    return {
        name if name in heads else prefix + name: tensor
        for name, tensor in tensors.items()
        if not name.endswith("rotary_emb.inv_freq")
    }


def fitted(checkpoint: Checkpoint, model_class: type[PreTrainedModel]) -> dict[str, Stored]:
    """The tensors that `model_class` has a place for, after checking that every place is filled.

    Two differences are no mistake: a causal head on the way to a classifier is left out, and the classifier's
    new `score` head may be missing.

    Raises:
        CheckpointError: tensors are missing, extra or of another shape, or a tied head differs; or the
            configuration has values that no model can have.
    """
    layers, count = checkpoint.config.num_hidden_layers, len(checkpoint.tensors)
    if layers > count:  # building so many could take for ever
        raise CheckpointError(f"{checkpoint.path}: does not fit, {layers} layers but {count} tensors")
    try:
        with torch.device("meta"):
            empty = model_class(checkpoint.config)
    except BROKEN as error:
        raise _broken(_description_file(checkpoint.path), error) from error
    expected = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    tensors = _without_tied_head(checkpoint, HEAD in expected)
    if checkpoint.config.ties_embeddings:
        expected.pop(HEAD, None)
    if SCORE in expected:
        tensors.pop(HEAD, None)
    missing = [name for name in expected if name not in tensors and name != SCORE]
    extra = [name for name in tensors if name not in expected]
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    misshapen = [name for name in expected if name in shapes and shapes[name] != expected[name]]
    faults = [
        listed("missing", [name + _because(name) for name in missing]),
        listed("not expected", [name + _because(name) for name in extra]),
        listed("of another shape", [differing(name, shapes[name], expected[name]) for name in misshapen]),
    ]
    if any(faults):
        raise CheckpointError(f"{checkpoint.path}: does not fit, {'; '.join(filter(None, faults))}")
    return tensors


def _because(name: str) -> str:
    return f" ({WHY[name]})" if name in WHY else ""


def differing(name: str, here: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """A tensor and its two shapes."""
    return f"{name}: {tuple(here)} here, {tuple(expected)} by its configuration"


def listed(fault: str, names: list[str]) -> str:
    """`5 tensors missing: a, b, c and 2 more`; nothing for none."""
    if not names:
        return ""
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''} {fault}: {', '.join(names[:3])}{rest}"


def _without_tied_head(checkpoint: Checkpoint, has_head: bool) -> dict[str, Stored]:
    """The tensors, each tied one once, under the embedding's name.

    Raises:
        CheckpointError: the configuration ties a head that the file has trained apart from the embedding.
    """
    tensors = dict(checkpoint.tensors)
    if not checkpoint.config.ties_embeddings or HEAD not in tensors:
        return tensors
    head = tensors.pop(HEAD)
    embedding = tensors.setdefault(EMBEDDING, head)
    if has_head and (head.shape != embedding.shape or not torch.equal(head[...], embedding[...])):
        raise CheckpointError(
            f"{checkpoint.path}: {HEAD} differs from {EMBEDDING}, but config.json ties them "
            "(set shared_input_output_embedding and tie_word_embeddings to false to keep this head)"
        )
    return tensors
