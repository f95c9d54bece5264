"""What a checkpoint says about generating text, such that it can be written again."""

from collections.abc import Sequence
from pathlib import Path

from transformers import GenerationConfig, PreTrainedModel

from workbench.errors import CheckpointError

FILE = "generation_config.json"


def settle_generation(generation: GenerationConfig) -> str:
    """Make settings consistent that transformers would refuse to write again; what was done, in words.

    Old files give a temperature and leave out that it is for sampling.

    Raises:
        ValueError: `eos_token_id` names something else than tokens.
    """
    eos_ids(generation)
    if generation.pad_token_id == -1:
        generation.pad_token_id = None
    if _is_consistent(generation):
        return ""
    if generation.do_sample is None:
        generation.do_sample = True
        if _is_consistent(generation):
            return "do_sample on, as generation_config.json has sampling values"
    kept = {name: getattr(generation, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    consistent = GenerationConfig(**kept)  # type: ignore[no-untyped-call]
    vars(generation).update(vars(consistent))
    return "generation_config.json contradicts itself, only its token numbers are kept"


def _is_consistent(generation: GenerationConfig) -> bool:
    try:
        generation.validate(strict=True)
    except ValueError:
        return False
    return True


def end_at(model: PreTrainedModel, ids: Sequence[int]) -> None:
    """Let generation end at these tokens too: what was trained as the end of an answer comes first."""
    generation = getattr(model, "generation_config", None)
    if generation is None or not ids or not model.can_generate():
        return
    ends = list(dict.fromkeys([*ids, *eos_ids(generation)]))
    generation.eos_token_id = ends if len(ends) > 1 else ends[0]


def eos_ids(generation: GenerationConfig | None) -> list[int]:
    """The tokens at which generation ends.

    Raises:
        ValueError: something else than numbers of tokens is named.
    """
    named = getattr(generation, "eos_token_id", None)
    ids = [] if named is None else list(named) if isinstance(named, list | tuple) else [named]
    if not all(isinstance(index, int) for index in ids):
        raise ValueError(f"eos_token_id={named!r:.60} (the number of a token, or a list of such)")
    return ids


def read_ends(folder: Path) -> list[int]:
    """The end tokens that the generation_config.json of a folder names; empty: there is no such file.

    Raises:
        CheckpointError: it is damaged.
    """
    if not (folder / FILE).is_file():
        return []
    try:
        return eos_ids(GenerationConfig.from_pretrained(folder))
    except (ValueError, OSError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{folder / FILE}: can't be read, {' '.join(str(error).split())}") from error
