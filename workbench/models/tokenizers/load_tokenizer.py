"""The tokenizer of a model: loaded from wherever it lies, padding settled, checked against the embedding."""

import logging
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import cast

from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from workbench.config.model import Architecture, ModelConfig
from workbench.contexts import quiet_transformers, without_panics
from workbench.errors import CheckpointError, ConfigError
from workbench.models import auto_model
from workbench.models.checkpoints.checkpoint import describe
from workbench.models.checkpoints.foreign_code import runs_tokenizer_code
from workbench.models.checkpoints.hub import locate, locate_tokenizer
from workbench.models.checkpoints.state_dict import read_json_object
from workbench.models.gguf import reader
from workbench.models.tokenizers import sentencepiece
from workbench.models.tokenizers.patterns import check_patterns
from workbench.models.tokenizers.tokenizer_bounds import check_announced, check_ids, check_template
from workbench.reading_once import computed_once

READ = (
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("added_tokens.json", "special_tokens_map.json", "chat_template.jinja", "config.json"),
)
"""Names of files that say something about a tokenizer."""
FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
logger = logging.getLogger("workbench")


def token_ids(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str], key: str) -> list[int]:
    """The numbers of some tokens of the vocabulary, which `key` names.

    Raises:
        ConfigError: the vocabulary has no such token.
    """
    vocabulary = tokenizer.get_vocab()
    for token in tokens:
        if token not in vocabulary:
            raise ConfigError(f"{key}: the tokenizer has no token {token!r} (as a whole; see its vocabulary)")
    return [vocabulary[token] for token in tokens]


def take_template(tokenizer: PreTrainedTokenizerBase, template: str | None) -> None:
    """Give the tokenizer another chat template; None, or the one that it has, leaves all that it has."""
    own = tokenizer.chat_template
    if template and template != (own.get("default") if isinstance(own, dict) else own):
        tokenizer.chat_template = template


def load_tokenizer(model: ModelConfig) -> PreTrainedTokenizerFast:
    """The model's tokenizer, with a padding token out of its own vocabulary.

    Within `reading_once` its files are parsed once. Each call returns an object of its own, whose chat
    template may be changed; the vocabulary behind them is the same.

    Raises:
        ConfigError: `model.pad_token` is not in the vocabulary, or there is no token to pad with.
        CheckpointError: there is no tokenizer, or it knows more tokens than the embedding has rows.
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
            f"{model.tokenizer or model.path}: the tokenizer has {len(tokenizer)} tokens, the model's "
            f"embedding {rows} rows, none for {beyond!r} (model.tokenizer names another)"
        )
    return tokenizer


def _settled_tokenizer(place: Path, rows: int | None, pad_token: str | None) -> PreTrainedTokenizerFast:
    """The tokenizer at `place`, checked for an embedding of so many rows, with a padding token."""
    with quiet_transformers():
        tokenizer = read_tokenizer(place, rows)
    check_ids(tokenizer, rows, str(place))
    check_template(tokenizer, str(place))
    _settle_dropout(tokenizer)
    _settle_padding(tokenizer, pad_token)
    return tokenizer


def num_embeddings(model: ModelConfig) -> int | None:
    """Rows of the embedding, by the model's configuration; None: it doesn't say."""
    if model.init:
        return cast(int | None, model.init.get("vocab_size"))
    path = locate(model.path, model.revision)
    if model.architecture is not Architecture.native:
        return describe(path).config.vocab_size
    return cast(int | None, getattr(auto_model.read_config(path).get_text_config(), "vocab_size", None))


def tokenizer_place(model: ModelConfig) -> Path:
    """Where the tokenizer lies.

    Raises:
        ConfigError: neither `model.tokenizer` nor `model.path` is given.
    """
    if model.tokenizer is not None:
        return locate_tokenizer(model.tokenizer)
    if model.path is None and model.init:
        raise ConfigError("model.tokenizer: not given, and there is no model.path to take it from")
    if model.path is None:
        raise ConfigError("model.path: not given (a folder, a .gguf file or a hub id)")
    return locate(model.path, model.revision)


def read_tokenizer(place: Path, rows: int | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder, a `.gguf` file or a tokenizer.json.

    Args:
        place: The folder or file.
        rows: Of the model's embedding; None: unknown.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    if place.is_dir() and not any((place / name).is_file() for name in FILES):
        raise CheckpointError(f"{place}: holds no tokenizer (model.tokenizer names another)")
    check_announced(place, rows)
    file = place / "tokenizer.json" if place.is_dir() else place
    if file.suffix == ".json" and file.is_file():
        check_patterns(file)
    with ReadingTokenizer(place), without_panics():
        tokenizer = _read_tokenizer(place, rows)
        tokenizer("a 1\n。")  # some damage shows only here
    return tokenizer


def _read_tokenizer(place: Path, rows: int | None) -> PreTrainedTokenizerFast:
    """The tokenizer, by the kind of its files; see `read_tokenizer`."""
    if place.suffix == ".gguf":
        return reader.read_tokenizer(place)
    if place.suffix == ".model":
        return sentencepiece.read_tokenizer(place, rows)
    if place.is_file():
        return PreTrainedTokenizerFast(tokenizer_file=str(place))  # type: ignore[no-untyped-call]
    if (place / "tokenizer.model").is_file() and not (place / "tokenizer.json").is_file():
        return sentencepiece.read_tokenizer(place / "tokenizer.model", rows)
    # Without a config.json the class is tokenizer_config.json's alone.
    config = None if (place / "config.json").is_file() else PreTrainedConfig()
    file = place / "tokenizer_config.json"
    trusted = file.is_file() and runs_tokenizer_code(read_json_object(file), file)
    return cast(
        PreTrainedTokenizerFast,
        AutoTokenizer.from_pretrained(place, config=config, trust_remote_code=trusted),
    )


@dataclass(frozen=True)
class ReadingTokenizer:
    """Turns what is raised while a tokenizer is read into a CheckpointError.

    The tokenizers library raises bare Exceptions, for a broken regular expression for one, and panics.
    """

    place: Path

    def __enter__(self) -> None:
        """Begin to read."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say what was wrong."""
        if kind is None or issubclass(kind, CheckpointError):
            return
        if kind is Exception or issubclass(kind, auto_model.LOAD_ERRORS) or kind.__name__ == "PanicException":
            reason = " ".join(str(error).split())
            if "trust_remote_code" in reason:
                raise CheckpointError(
                    f"{self.place}: the tokenizer comes with code, which is not run (trust_code=true on the "
                    "command line runs it, with all rights of yours)"
                ) from error
            raise CheckpointError(f"{self.place}: the tokenizer can't be read: {reason:.500}") from error


def _settle_dropout(tokenizer: PreTrainedTokenizerFast) -> None:
    """Switch off merges that are left out at random: the same text would have other tokens each time."""
    if share := getattr(tokenizer.backend_tokenizer.model, "dropout", None):
        tokenizer.backend_tokenizer.model.dropout = None
        _say_once(f"the tokenizer leaves out merges at random (dropout {share:.3g}); that is switched off")


def _settle_padding(tokenizer: PreTrainedTokenizerFast, wanted: str | None) -> None:
    """Give the tokenizer a padding token without ever adding one to its vocabulary.

    LLaMA's tokenizers have none. Padding is masked, and a classifier, which looks for the last token before
    it, is told by `load_model` which token that is.

    Raises:
        ConfigError: `wanted` is not in the vocabulary, or nothing is there to choose.
    """
    if wanted is not None and wanted not in tokenizer.get_vocab():
        raise ConfigError(f"model.pad_token: {wanted!r} is not in the vocabulary (say '</s>')")
    if wanted is None and tokenizer.pad_token is not None:
        return
    chosen = wanted or tokenizer.unk_token or tokenizer.eos_token
    if chosen is None:
        raise ConfigError("model.pad_token: the tokenizer has no pad, unk or eos token (name one)")
    tokenizer.pad_token = chosen
    if wanted is None:
        _say_once(f"the tokenizer has no padding token, {chosen!r} is used (model.pad_token chooses another)")


@cache
def _say_once(message: str) -> None:
    logger.info(message)
