"""Loads a model's tokenizer, chooses its padding token, and checks it against the embedding."""

import logging
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import cast

from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from workbench.config.model import ModelConfig
from workbench.contexts import quiet_transformers, without_panics
from workbench.errors import CheckpointError, ConfigError
from workbench.log_once import log_once
from workbench.models import auto_model
from workbench.models.architecture import is_native
from workbench.models.checkpoints.checkpoint import describe
from workbench.models.checkpoints.foreign_code import runs_tokenizer_code
from workbench.models.checkpoints.hub import locate, locate_tokenizer
from workbench.models.checkpoints.state_dict import read_json_object
from workbench.models.gguf import reader
from workbench.models.tokenizers import sentencepiece, tiktoken_file
from workbench.models.tokenizers.file_agreement import difference
from workbench.models.tokenizers.patterns import check_patterns
from workbench.models.tokenizers.tokenizer_bounds import check_announced, check_ids, check_template
from workbench.reading_once import computed_once

READ = (
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("added_tokens.json", "special_tokens_map.json", "chat_template.jinja", "config.json"),
    tiktoken_file.QWEN_FILE,
)
"""Names of files that are read for a tokenizer."""
FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", tiktoken_file.QWEN_FILE)
"""Names of files of which a folder with a tokenizer has at least one."""
logger = logging.getLogger("workbench")


def token_ids(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str], key: str) -> list[int]:
    """Return the ids of tokens, given as their texts, in order.

    Raises:
        ConfigError: A token is not in the vocabulary; the message names `key`, the config key of the tokens.
    """
    vocabulary = tokenizer.get_vocab()
    for token in tokens:
        if token not in vocabulary:
            raise ConfigError(f"{key}: {token!r} is not a single token of the tokenizer (see its vocabulary)")
    return [vocabulary[token] for token in tokens]


def take_template(tokenizer: PreTrainedTokenizerBase, template: str | None) -> None:
    """Set the tokenizer's chat template in place, unless `template` is None or the default that it has."""
    current = tokenizer.chat_template
    if template and template != (current.get("default") if isinstance(current, dict) else current):
        tokenizer.chat_template = template


def load_tokenizer(model: ModelConfig) -> PreTrainedTokenizerFast:
    """Load the tokenizer of `model.tokenizer`, else of `model.path`, and choose a padding token if need be.

    Within `reading_once` its files are parsed once, and each call returns a shallow copy: the caller may set
    its chat template, but must not change vocabulary and special tokens, which all copies share.

    Raises:
        ConfigError: `model.pad_token` is not in the vocabulary, or there is no token to pad with.
        CheckpointError: There is no tokenizer, or a token id is larger than the embedding.
    """
    place, rows = tokenizer_place(model), num_embeddings(model)
    files = [place] if place.is_file() else [file for name in READ if (file := place / name).is_file()]
    purpose = f"tokenizer for {rows} rows, padded with {model.pad_token!r}"
    read = partial(_settled_tokenizer, place, rows, model.pad_token)
    tokenizer = copy(computed_once(purpose, place, files, read))
    beyond = None
    if rows is not None:
        beyond = next((token for token, index in tokenizer.get_vocab().items() if index >= rows), None)
    if beyond is not None:
        raise CheckpointError(
            f"{model.tokenizer or model.path}: the tokenizer has {len(tokenizer)} tokens, but the model's "
            f"embedding has {rows} rows, none for {beyond!r} (name another one with model.tokenizer)"
        )
    return tokenizer


def _settled_tokenizer(place: Path, rows: int | None, pad_token: str | None) -> PreTrainedTokenizerFast:
    """Read the tokenizer at `place`, check it against the embedding's rows, and choose a padding token."""
    with quiet_transformers():
        tokenizer = read_tokenizer(place, rows)
    file = place / "tokenizer.json"
    if file.is_file() and (said := difference(tokenizer, file)):
        logger.warning(said)
    check_ids(tokenizer, rows, str(place))
    check_template(tokenizer, str(place))
    _disable_dropout(tokenizer)
    _choose_padding(tokenizer, pad_token)
    return tokenizer


def num_embeddings(model: ModelConfig) -> int | None:
    """Return the number of embedding rows (`vocab_size`) in the model's configuration; None if it has none.

    With `model.init`, its `vocab_size`.

    Raises:
        WorkbenchError: There is no model, or its configuration is damaged.
    """
    if model.init:
        return cast(int | None, model.init.get("vocab_size"))
    path = locate(model.path, model.revision)
    if not is_native(model):
        return describe(path).config.vocab_size
    return cast(int | None, getattr(auto_model.read_config(path).get_text_config(), "vocab_size", None))


def tokenizer_place(model: ModelConfig) -> Path:
    """Return the local path of the tokenizer's folder or file: of `model.tokenizer`, else of `model.path`.

    It isn't checked whether a tokenizer is there. A hub id is downloaded.

    Raises:
        ConfigError: Neither of them is given.
        CheckpointError: There is nothing at the path.
    """
    if model.tokenizer is not None:
        return locate_tokenizer(model.tokenizer)
    if model.path is None and model.init:
        raise ConfigError("model.tokenizer: not given, and there is no model.path to load it from")
    if model.path is None:
        raise ConfigError("model.path: not given (a folder, a .gguf file or a hub id)")
    return locate(model.path, model.revision)


def has_tokenizer(model: ModelConfig) -> bool:
    """Return whether there is a tokenizer: in the folder at `model.path`, or by `model.tokenizer`.

    True also with `model.init`, without looking for one.

    Raises:
        ConfigError: `model.path` is not given.
        CheckpointError: There is nothing at `model.path`.
    """
    if model.tokenizer is not None or model.init:
        return True
    return _has_files(tokenizer_place(model))


def _has_files(path: Path) -> bool:
    """Return whether `path` is a tokenizer file, or a folder with one."""
    return not path.is_dir() or any((path / name).is_file() for name in FILES)


def read_tokenizer(path: Path, rows: int | None = None) -> PreTrainedTokenizerFast:
    """Read the tokenizer of a folder, a `.gguf`, `.model` or `.tiktoken` file or a tokenizer.json.

    Args:
        path: The folder or file.
        rows: Number of rows of the model's embedding, which limits the vocabulary; None: unknown.

    Raises:
        CheckpointError: There is no tokenizer, it is damaged, or its vocabulary is too large.
        ConfigError: The tokenizer needs code of its own, and the user doesn't trust it.
    """
    if not _has_files(path):
        raise CheckpointError(f"{path}: has no tokenizer (name one with model.tokenizer)")
    check_announced(path, rows)
    file = path / "tokenizer.json" if path.is_dir() else path
    if file.suffix == ".json" and file.is_file():
        check_patterns(file)
    with TokenizerErrors(path), without_panics():
        tokenizer = _read_tokenizer(path, rows)
        tokenizer("a 1\n。")  # some damage raises only when text is encoded
    return tokenizer


def _read_tokenizer(path: Path, rows: int | None) -> PreTrainedTokenizerFast:
    """Read the tokenizer by the reader that suits the kind of file at `path`; see `read_tokenizer`."""
    if path.suffix == ".gguf":
        return reader.read_tokenizer(path)
    if (file := _tiktoken_in(path)) is not None:
        return tiktoken_file.read_tokenizer(file, rows)
    if path.suffix == ".model":
        return sentencepiece.read_tokenizer(path, rows)
    if path.is_file():
        return PreTrainedTokenizerFast(tokenizer_file=str(path))  # type: ignore[no-untyped-call]
    if (path / "tokenizer.model").is_file() and not (path / "tokenizer.json").is_file():
        return sentencepiece.read_tokenizer(path / "tokenizer.model", rows)
    # Without a config.json, tokenizer_config.json alone names the class.
    config = None if (path / "config.json").is_file() else PreTrainedConfig()
    file = path / "tokenizer_config.json"
    trusted = file.is_file() and runs_tokenizer_code(read_json_object(file), file)
    return cast(
        PreTrainedTokenizerFast,
        AutoTokenizer.from_pretrained(path, config=config, trust_remote_code=trusted),
    )


def _tiktoken_in(path: Path) -> Path | None:
    """Return the tiktoken file at `path`, itself or in the folder; None if there is none.

    None too if the folder has a tokenizer.json, which is read instead.
    """
    if (path / "tokenizer.json").is_file():
        return None
    for file in [path] if path.is_file() else [path / tiktoken_file.QWEN_FILE, path / "tokenizer.model"]:
        may_be = file.suffix in (".tiktoken", ".model") and file.is_file()
        if may_be and (file.suffix == ".tiktoken" or tiktoken_file.is_tiktoken(file)):
            return file
    return None


@dataclass(frozen=True)
class TokenizerErrors:
    """Context manager that converts errors in reading a tokenizer's files into a CheckpointError.

    The tokenizers library raises bare Exceptions, for example for an invalid regular expression, and panics.
    """

    path: Path
    """The tokenizer, for the message."""

    def __enter__(self) -> None:
        """Do nothing; `__exit__` converts the errors."""

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raise CheckpointError in place of an error of transformers or the tokenizers library."""
        if error_type is None or issubclass(error_type, CheckpointError):
            return
        if (
            error_type is Exception
            or issubclass(error_type, auto_model.LOAD_ERRORS)
            or error_type.__name__ == "PanicException"
        ):
            reason = " ".join(str(error).split())
            if "trust_remote_code" in reason:
                raise CheckpointError(
                    f"{self.path}: the tokenizer contains code, which is not run (trust_code=true on the "
                    "command line runs it, with all your rights)"
                ) from error
            raise CheckpointError(f"{self.path}: the tokenizer can't be read: {reason:.500}") from error


def _disable_dropout(tokenizer: PreTrainedTokenizerFast) -> None:
    """Disable BPE dropout, which skips merges at random: the same text would have other tokens each time."""
    if share := getattr(tokenizer.backend_tokenizer.model, "dropout", None):
        tokenizer.backend_tokenizer.model.dropout = None
        log_once(f"the tokenizer has BPE dropout {share:.3g}, which is disabled")


def _choose_padding(tokenizer: PreTrainedTokenizerFast, requested: str | None) -> None:
    """Set a padding token from the vocabulary, without adding one.

    LLaMA's tokenizers have no padding token. Padding is masked; for classifiers, which read the last token
    before the padding, `load_model` sets the model's `pad_token_id`.

    Raises:
        ConfigError: `requested` is not in the vocabulary, or there is no token to choose.
    """
    if requested is not None and requested not in tokenizer.get_vocab():
        raise ConfigError(f"model.pad_token: {requested!r} is not in the vocabulary (for example '</s>')")
    if requested is None and tokenizer.pad_token is not None:
        return
    chosen = requested or tokenizer.unk_token or tokenizer.eos_token
    if chosen is None:
        raise ConfigError(
            "model.pad_token: the tokenizer has no pad, unk or eos token (name a token of its vocabulary)"
        )
    tokenizer.pad_token = chosen
    if requested is None:
        log_once(f"the tokenizer has no padding token, {chosen!r} is used (model.pad_token chooses another)")
