"""Whether a checkpoint's tensors fit the model that its configuration describes."""

import torch
from transformers import PreTrainedModel

from workbench.errors import CheckpointError
from workbench.models.checkpoints.checkpoint import BROKEN, SCORE, Checkpoint, broken, description_file
from workbench.models.checkpoints.stable_embedding import EMBEDDING, HEAD
from workbench.models.open_llama.configuration_open_llama import OpenLlamaConfig
from workbench.models.open_llama.modeling_open_llama import OpenLlamaRotaryEmbedding
from workbench.models.stored import Stored

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
WHY = {
    "model.embed_layer_norm.weight": "use_stable_embedding is on in config.json",
    HEAD: "neither shared_input_output_embedding nor tie_word_embeddings is on in config.json",
    SCORE: "model.task=sequence_classification takes a classifier",
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
        raise CheckpointError(
            f"{checkpoint.path}: does not fit, num_hidden_layers={layers} and {count} tensors"
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
    odd = [f"{name}: {tensors[name].dtype}" for name in tensors if tensors[name].dtype not in FLOATS]
    faults = [
        listed("of no type that weights are kept in", odd),
        listed("missing", [name + _because(name) for name in missing]),
        listed("not expected", [name + _because(name) for name in extra]),
        listed("of another shape", [differing(name, shapes[name], expected[name]) for name in misshapen]),
    ]
    if any(faults):
        raise CheckpointError(f"{checkpoint.path}: does not fit, {'; '.join(filter(None, faults))}")
    return tensors


def _check_frequencies(config: OpenLlamaConfig) -> None:
    """Raise ValueError where the rotary settings don't give one number for each pair of a head's columns."""
    for found in OpenLlamaRotaryEmbedding(config).frequencies(torch.device("cpu")).values():
        if len(found) != config.head_width // 2 or not bool(found.isfinite().all()):
            raise ValueError(f"rope_parameters give no {config.head_width // 2} frequencies: {config.rope!r}")


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
