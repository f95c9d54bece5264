"""Opens a model folder of any tool: tensors, read one at a time, under names that don't depend on the tool.

These canonical names lack the prefixes of wrappers and model classes, such as `model.`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

from workbench.errors import CheckpointError, ConfigError
from workbench.files import local_path
from workbench.models.checkpoints import chatglm, meta_llama
from workbench.models.checkpoints.checkpoint import describe
from workbench.models.checkpoints.hub import locate
from workbench.models.checkpoints.ready_quantized import folder_format, read_unpacked, unquantized
from workbench.models.checkpoints.state_dict import existing_files, open_tensors, read_json_object
from workbench.models.checkpoints.tensor_layouts import with_llama_names
from workbench.models.gguf import reader
from workbench.models.open_llama.relatives import RELATIVES, relative_config
from workbench.models.stored import Stored

PREFIXES = (
    *("module.", "_orig_mod.", "base_model.model."),  # DistributedDataParallel, torch.compile, peft
    *("model.", "transformer.", "language_model.", "gpt_neox.", "backbone.", "bert.", "roberta."),
)
"""Beginnings of tensor names that wrappers and model classes add, and that differ between tools."""
BUFFERS = ("rotary_emb.inv_freq", ".attn.masked_bias", ".attention.masked_bias", "position_ids")
"""Ends of the names of buffers, which old files have and which are not weights."""
EMBEDDINGS = ("embed_tokens", "wte", "wpe", "word_embeddings", "position_embeddings", "embed_in")
"""Last parts of the names of modules whose weight has a row for each token or position."""
HEAD = "lm_head.weight"
"""Canonical name of the language model head's weight."""
HEADS = ("lm_head", "score", "classifier", "embed_out")
"""Last parts of the names of output heads."""


@dataclass(frozen=True)
class ModelFolder:
    """Model in a folder or a GGUF file; its tensors are read when they are accessed."""

    path: Path
    config: dict[str, Any]
    """Content of config.json, or of what other formats have in its place."""
    tensors: Mapping[str, Stored]
    """Canonical name -> tensor."""
    file_names: Mapping[str, str]
    """Canonical name -> name in the file, or of a converted model in transformers."""

    @property
    def is_tied(self) -> bool:
        """Return whether head and embedding share a weight, by config.json.

        If it doesn't say so, whether the files have no head.
        """
        names = ("tie_word_embeddings", "shared_input_output_embedding")
        switches = [self.config[name] for name in names if name in self.config]
        return any(switches) if switches else HEAD not in self.tensors

    @property
    def is_classifier(self) -> bool:
        """Return whether config.json names a class for sequence classification."""
        names = self.config.get("architectures") or []
        return any(str(name).endswith("ForSequenceClassification") for name in names)

    def embedding(self) -> str | None:
        """Return the canonical name of the input embedding's weight; None if no weight has a known name."""
        names = ("embed_tokens.weight", "wte.weight", "embeddings.word_embeddings.weight", "embed_in.weight")
        return next((name for name in names if name in self.tensors), None)

    def weight(self, name: str) -> Stored | None:
        """Return the weight of this name, with or without prefixes; None if there is none.

        For a tied head it is the embedding.
        """
        short = canonical(name)
        source = self.embedding() if short == HEAD and self.is_tied else short
        return None if source is None else self.tensors.get(source)


def canonical(name: str) -> str:
    """Return a tensor's or module's name without the prefixes of wrappers and model classes (`model.`)."""
    while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), ""):
        name = name.removeprefix(prefix)
    return name


def is_head(name: str) -> bool:
    """Return whether a tensor's name is that of an output head: a language model's or a classifier's."""
    return name.rpartition(".")[0].rpartition(".")[2] in HEADS


def is_embedding(name: str) -> bool:
    """Return whether a tensor's name is that of an embedding of tokens or positions."""
    return name.rpartition(".")[0].rpartition(".")[2] in EMBEDDINGS


def open_base(path: str | None, revision: str | None = None) -> ModelFolder:
    """Open the model at `path`, the value of `model.path`: a folder, a hub id or a `.gguf` file.

    A model type that transformers doesn't have is converted, as by `open_folder` with `as_transformers`.

    Raises:
        ConfigError: `path` is None or empty.
        CheckpointError: There is no model, or a file of it is damaged.
    """
    return open_folder(locate(path, revision), as_transformers=True)


def base_weights(path: str | None, revision: str | None = None) -> Callable[[str], Stored | None]:
    """Return a function from a name to the weight of the model at `path`, as `ModelFolder.weight`.

    The function opens the model at its first call, with the errors of `open_base`.
    """
    opened = cache(partial(open_base, path, revision))
    return lambda name: opened().weight(name)


def open_merged(path: str | None) -> ModelFolder:
    """Open the local model folder at `path`, the value of `merged.path`, with conversion as in `open_base`.

    Raises:
        ConfigError: `path` is None or empty.
        CheckpointError: There is no model folder, or a file of it is damaged.
    """
    if not path:
        raise ConfigError("merged.path: not given (the folder of the merged model)")
    folder = local_path(path)
    if not (folder / "config.json").is_file():
        hint = " (it is an adapter)" if (folder / "adapter_config.json").is_file() else ""
        raise CheckpointError(f"merged.path: {path!r} is not a model folder, it has no config.json{hint}")
    return open_folder(folder, as_transformers=True)


def open_folder(path: Path, *, as_transformers: bool = False) -> ModelFolder:
    """Open a model folder or a `.gguf` file.

    Args:
        path: The folder or file.
        as_transformers: Whether to convert a model type that transformers doesn't have, such as InternLM2, to
            configuration and tensor names of the transformers model that computes the same.

    Raises:
        CheckpointError: A file of it is damaged, or two tensors have one canonical name.
    """
    config, tensors = _read(path)
    if as_transformers:
        config, tensors = _converted(path, config, tensors)
    names: dict[str, str] = {}
    for name in tensors:
        if name.endswith(BUFFERS):
            continue
        short = canonical(name)
        if short in names:
            raise CheckpointError(f"{path}: {names[short]} and {name} are the same tensor under two names")
        names[short] = name
    return ModelFolder(path, config, {short: tensors[name] for short, name in names.items()}, names)


def _converted(
    path: Path, config: dict[str, Any], tensors: Mapping[str, Stored]
) -> tuple[dict[str, Any], Mapping[str, Stored]]:
    """Convert a model type that transformers doesn't have to the model that computes the same.

    Other models are returned unchanged. The result is the configuration, and the tensors by name.

    Raises:
        CheckpointError: Its configuration is damaged or not supported, or a tensor doesn't fit it.
    """
    model_type = str(config.get("model_type"))
    if model_type == chatglm.MODEL_TYPE:
        own: PreTrainedConfig = chatglm.glm_config(config, path / "config.json")
        same = own
    elif model_type in RELATIVES and model_type not in CONFIG_MAPPING:
        own = describe(path).config
        same = relative_config(own)
    else:
        return config, tensors
    described = same.to_dict() | {"architectures": config.get("architectures")}
    return described, with_llama_names(model_type, own, tensors, path)


def _read(path: Path) -> tuple[dict[str, Any], Mapping[str, Stored]]:
    """Return the fields of config.json and name -> tensor; the tensors are not read yet."""
    if path.is_file():
        return reader.read_config(path), reader.read_tensors(path)
    if meta_llama.is_meta(path):
        return meta_llama.read_config(path), meta_llama.read_tensors(path)
    files = existing_files(path)
    if not files:
        raise CheckpointError(f"{path}: no weights (model.safetensors or pytorch_model.bin, or their index)")
    config = read_json_object(path / "config.json")
    if (quantized := folder_format(path)) is not None:
        return unquantized(config), read_unpacked(path, quantized)
    return config, open_tensors(files)
