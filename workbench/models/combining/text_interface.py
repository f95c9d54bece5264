"""Checks that models to merge read and write texts as the merged model will.

The merged model has the base's classes and generation settings, and the base's tokenizer or that of
`model.tokenizer`.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from workbench.config.model import ModelConfig
from workbench.errors import CheckpointError
from workbench.models.checkpoints import generation_config
from workbench.models.checkpoints.model_folder import ModelFolder
from workbench.models.tokenizers.load_tokenizer import has_tokenizer, load_tokenizer

log = logging.getLogger("workbench")


def check_text_interface(
    section: ModelConfig, base: ModelFolder, tuned: Sequence[tuple[str, ModelFolder]]
) -> None:
    """Check classes and token ids of the tuned models; warn about tokens, templates and ends that are lost.

    Args:
        section: The base's section `model`.
        base: The base.
        tuned: Path in the configuration, and opened model, of each tuned model.

    Raises:
        CheckpointError: A model has other classes than the base, or another order of them, or gives a token
            another id than the merged model's tokenizer.
    """
    written = load_tokenizer(section) if has_tokenizer(section) else None
    _check_classes([("the base", base), *((repr(path), model) for path, model in tuned)])
    for path, model in tuned:
        own = replace(section, path=path, revision=None, tokenizer=None, init={})
        if written is not None and has_tokenizer(own):
            _check_tokenizer(written, load_tokenizer(own), path)
        if not model.is_classifier:
            _compare_ends(base, model, path)


def _check_classes(models: Sequence[tuple[str, ModelFolder]]) -> None:
    """Raise CheckpointError if two classifiers name their classes differently; some may have no names."""
    named = [(shown, names) for shown, model in models if (names := _class_names(model))]
    for shown, names in named[1:]:
        first, expected = named[0]
        differing = [index for index in {**expected, **names} if expected.get(index) != names.get(index)]
        if differing:
            index = differing[0]
            raise CheckpointError(
                f"merge.models: class {index} is {names.get(index)!r} in {shown} and {expected.get(index)!r} "
                f"in {first} (merge classifiers that have the same classes in the same order)"
            )


def _class_names(model: ModelFolder) -> dict[str, str]:
    """Return class id -> name by config.json; empty for other models and for transformers' default names."""
    names = model.config.get("id2label") if model.is_classifier else None
    if not isinstance(names, dict):
        return {}
    named = {str(index): str(name) for index, name in names.items()}
    return {} if all(name == f"LABEL_{index}" for index, name in named.items()) else named


def _check_tokenizer(written: PreTrainedTokenizerBase, own: PreTrainedTokenizerBase, path: str) -> None:
    """Compare a tuned model's tokenizer with the merged model's.

    Raises:
        CheckpointError: A token has another id.
    """
    ids, others = written.get_vocab(), own.get_vocab()
    for token, index in others.items():
        if ids.get(token, index) != index:
            raise CheckpointError(
                f"merge.models: the token {token!r} is number {index} in {path!r} and {ids[token]} in the "
                "merged model's tokenizer (merge models that were tuned with one tokenizer)"
            )
    if lost := [token for token in others if token not in ids]:
        log.warning(
            "merge.models: %s has %d %s that the merged model's tokenizer lacks, such as %r "
            "(model.tokenizer=%s writes its tokenizer)",
            *(path, len(lost), "token" if len(lost) == 1 else "tokens", lost[0], path),
        )
    if own.chat_template and own.chat_template != written.chat_template:
        log.warning(
            "merge.models: %s has %s chat template, and the merged model %s (model.tokenizer=%s writes its "
            "tokenizer and template)",
            *(path, "another" if written.chat_template else "a"),
            *("keeps the base's" if written.chat_template else "has none", path),
        )


def _compare_ends(base: ModelFolder, model: ModelFolder, path: str) -> None:
    """Warn if a tuned model's answers end with tokens that don't end the merged model's."""
    ends, kept = (generation_config.read_ends(folder.path) for folder in (model, base))
    if lost := [end for end in ends if end not in kept]:
        log.warning(
            "merge.models: answers of %s end with the token %d, which does not end the merged model's (add "
            "it to eos_token_id in the generation_config.json of the base)",
            *(path, lost[0]),
        )
