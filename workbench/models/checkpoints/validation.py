"""Checks that a checkpoint's tensors fit the model that its configuration describes."""

import torch
from transformers import PreTrainedModel

from workbench.errors import CheckpointError
from workbench.models.checkpoints.checkpoint import BROKEN, SCORE, Checkpoint, broken, description_file
from workbench.models.checkpoints.stable_embedding import EMBEDDING, HEAD
from workbench.models.open_llama.configuration_open_llama import OpenLlamaConfig
from workbench.models.open_llama.rotary_embedding import OpenLlamaRotaryEmbedding
from workbench.models.stored import Stored

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""Dtypes that a checkpoint's tensors may have."""
WHY = {
    "model.embed_layer_norm.weight": "use_stable_embedding is on in config.json",
    HEAD: "neither shared_input_output_embedding nor tie_word_embeddings is on in config.json",
    SCORE: "model.task=sequence_classification takes a classifier",
}
"""Name of a tensor -> why it is expected, or not, for a message."""


def fitted(checkpoint: Checkpoint, model_class: type[PreTrainedModel]) -> dict[str, Stored]:
    """Return name -> tensor for `model_class`, after checking that the checkpoint's tensors fit it.

    Names, shapes and dtypes are checked. A tied head is left out. For a classifier, the `score` head may be
    missing, and a language model head is left out.

    Raises:
        CheckpointError: Tensors are missing, unexpected or of another shape, a tied head differs, or the
            configuration has invalid values.
    """
    layers, count = checkpoint.config.num_hidden_layers, len(checkpoint.tensors)
    if layers > count:  # creating so many layers could take hours
        raise CheckpointError(
            f"{checkpoint.path}: does not fit, num_hidden_layers={layers} with only {count} tensors"
        )
    try:
        _check_frequencies(checkpoint.config)
        with torch.device("meta"):
            empty = model_class(checkpoint.config)
    except BROKEN as error:
        raise broken(description_file(checkpoint.path), error) from error
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
    unsupported = [f"{name}: {tensors[name].dtype}" for name in tensors if tensors[name].dtype not in FLOATS]
    faults = [
        listed("with an unsupported dtype", unsupported),
        listed("missing", [name + _explained(name) for name in missing]),
        listed("unexpected", [name + _explained(name) for name in extra]),
        listed("with another shape", [differing(name, shapes[name], expected[name]) for name in misshapen]),
    ]
    if any(faults):
        raise CheckpointError(f"{checkpoint.path}: does not fit, {'; '.join(filter(None, faults))}")
    return tensors


def _check_frequencies(config: OpenLlamaConfig) -> None:
    """Raise ValueError unless the rotary settings give a finite frequency for each pair of dimensions."""
    for frequencies in OpenLlamaRotaryEmbedding(config).frequencies(torch.device("cpu")).values():
        if len(frequencies) != config.head_width // 2 or not bool(frequencies.isfinite().all()):
            raise ValueError(
                f"rope_parameters don't give {config.head_width // 2} finite frequencies: {config.rope!r}"
            )


def _explained(name: str) -> str:
    return f" ({WHY[name]})" if name in WHY else ""


def differing(name: str, stored: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """Format a tensor's name and its two shapes, in the file and by config.json, for a message."""
    return f"{name}: {tuple(stored)} in the file, {tuple(expected)} by config.json"


def listed(fault: str, names: list[str]) -> str:
    """Format a fault and tensor names, as `5 tensors missing: a, b, c and 2 more`; empty without names."""
    if not names:
        return ""
    remainder = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''} {fault}: {', '.join(names[:3])}{remainder}"


def _without_tied_head(checkpoint: Checkpoint, has_head: bool) -> dict[str, Stored]:
    """Return the tensors without the head if it is tied, because its weight is the embedding's.

    Raises:
        CheckpointError: The configuration ties the head, but the file's head differs from the embedding.
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
