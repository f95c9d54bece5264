"""Opens the base and the models tuned from it; checks that they have the same architecture and tensors."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from workbench.errors import CheckpointError
from workbench.models.checkpoints.computing_fields import changed_fields
from workbench.models.checkpoints.hub import locate
from workbench.models.checkpoints.model_folder import HEAD, ModelFolder, open_folder
from workbench.models.checkpoints.state_dict import existing_files


def open_weights(path: str | None, key: str, revision: str | None = None) -> ModelFolder:
    """Open a model folder of transformers; a stored copy of a tied head is left out.

    Args:
        path: Folder or hub id.
        key: Configuration key that has the path, for messages.
        revision: Branch, tag or commit of a hub id; None: its main branch.

    Raises:
        ConfigError: `path` is None or empty.
        CheckpointError: There is no such folder, its weights are missing or damaged, or a head that
            config.json ties differs from the embedding.
    """
    try:
        folder = locate(path, revision)
    except CheckpointError as error:
        raise CheckpointError(str(error).replace("model.path", key, 1)) from error
    if not folder.is_dir() or not existing_files(folder):
        raise CheckpointError(
            f"{key}: {path!r} has no weights of transformers, whose tensors can be read one by one "
            "(recipe=export writes such a folder)"
        )
    return _without_tied_head(open_folder(folder))


def _without_tied_head(model: ModelFolder) -> ModelFolder:
    """Return the model without a head that some tools store though it is tied to the embedding.

    Raises:
        CheckpointError: config.json ties head and embedding, but they differ.
    """
    head, embedding = model.tensors.get(HEAD), model.embedding()
    if head is None or embedding is None or not model.is_tied:
        return model
    if not torch.equal(head[...], model.tensors[embedding][...]):
        raise CheckpointError(
            f"{model.path}: {HEAD} differs from {model.file_names[embedding]}, but config.json ties them "
            "(set tie_word_embeddings to false there to keep this head)"
        )
    return replace(model, tensors={name: model.tensors[name] for name in model.tensors if name != HEAD})


def check_one_base(base: ModelFolder, tuned: Sequence[tuple[str, ModelFolder]]) -> None:
    """Check that the tuned models have the architecture and the tensors of the base.

    Args:
        base: The base.
        tuned: Path in the configuration, and opened model, of each tuned model.

    Raises:
        CheckpointError: A model has another architecture or other tensors, or only some models tie their
            heads.
    """
    for path, model in tuned:
        _check_architecture(base, model, path)
        _check_head(base, model, path)
        _check_tensors(base, model, path)


def _check_architecture(base: ModelFolder, model: ModelFolder, path: str) -> None:
    """Raise CheckpointError if config.json says that the weights compute something else than the base's.

    This comes before the comparison of tensors, for a clearer message.
    """
    if changed := changed_fields(base.config, model.config):
        raise CheckpointError(
            f"merge.models: {path!r} is not of the base {str(base.path)!r}: its config.json has {changed[0]} "
            "(merge models tuned from one base)"
        )


def _check_head(base: ModelFolder, model: ModelFolder, path: str) -> None:
    """Raise CheckpointError if the head is tied to the embedding in only one of the two models."""
    has_head = HEAD in model.tensors
    if has_head is (HEAD in base.tensors) or not (base if has_head else model).is_tied:
        return
    own, shared = (repr(path), "the base") if has_head else ("the base", repr(path))
    raise CheckpointError(
        f"merge.models: {own} has an {HEAD} of its own, and in {shared} it is tied to the embedding "
        f"(leave {path!r} out, or give all tied ones a copy of the embedding as {HEAD}, with "
        "tie_word_embeddings, and an Open-Llama's shared_input_output_embedding, false in config.json)"
    )


def _check_tensors(base: ModelFolder, model: ModelFolder, path: str) -> None:
    """Raise CheckpointError if the two models don't have the same tensors in the same shapes."""
    for name in sorted(base.tensors.keys() ^ model.tensors.keys()):
        names = "the base", repr(path)
        lacking, having = names if name in model.tensors else reversed(names)
        shown = (model if name in model.tensors else base).file_names[name]
        raise CheckpointError(
            f"merge.models: {shown} is in {having} and not in {lacking} (merge models tuned from one base)"
        )
    for name, stored in base.tensors.items():
        if tuple(stored.shape) != (shape := tuple(model.tensors[name].shape)):
            raise CheckpointError(
                f"merge.models: {base.file_names[name]} is {list(shape)} in {path!r} and "
                f"{list(stored.shape)} in the base (merge models of one base and one vocabulary)"
            )
