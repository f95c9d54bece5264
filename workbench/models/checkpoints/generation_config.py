"""Reads a checkpoint's generation settings, and makes them consistent."""

from collections.abc import Sequence
from pathlib import Path

from transformers import GenerationConfig, PreTrainedModel

from workbench.errors import CheckpointError

FILE = "generation_config.json"


def settle_generation(generation: GenerationConfig) -> str:
    """Resolve contradictory settings in place, which transformers wouldn't save; return a note on the change.

    The note is empty if the settings are consistent. Old files, for example, have a temperature without
    `do_sample`.

    Raises:
        ValueError: `eos_token_id` is not a token id or a list of them.
    """
    eos_ids(generation)
    if generation.pad_token_id == -1:
        generation.pad_token_id = None
    if _is_consistent(generation):
        return ""
    if generation.do_sample is None:
        generation.do_sample = True
        if _is_consistent(generation):
            return "do_sample is on, because generation_config.json has sampling settings"
    token_ids = {name: getattr(generation, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    consistent = GenerationConfig(**token_ids)  # type: ignore[no-untyped-call]
    vars(generation).update(vars(consistent))
    return "generation_config.json contradicts itself, only its token ids are used"


def _is_consistent(generation: GenerationConfig) -> bool:
    try:
        generation.validate(strict=True)
    except ValueError:
        return False
    return True


def end_at(model: PreTrainedModel, ids: Sequence[int]) -> None:
    """Add end tokens to the model's generation config, in place, before those that it has.

    They come first because answers were trained to end with them. Nothing changes without `ids`, or for a
    model that doesn't generate.
    """
    generation = getattr(model, "generation_config", None)
    if generation is None or not ids or not model.can_generate():
        return
    ends = list(dict.fromkeys([*ids, *eos_ids(generation)]))
    generation.eos_token_id = ends if len(ends) > 1 else ends[0]


def eos_ids(generation: GenerationConfig | None) -> list[int]:
    """Return the ids of the tokens that end generation; [] without settings or without such tokens.

    Raises:
        ValueError: `eos_token_id` is not a token id or a list of them.
    """
    eos = getattr(generation, "eos_token_id", None)
    ids = [] if eos is None else list(eos) if isinstance(eos, list | tuple) else [eos]
    if not all(isinstance(index, int) for index in ids):
        raise ValueError(f"eos_token_id={eos!r:.60} (a token id, or a list of token ids)")
    return ids


def read_ends(folder: Path) -> list[int]:
    """Read the ids of the end tokens from a folder's generation_config.json; [] if the file is missing.

    Raises:
        CheckpointError: The file is damaged.
    """
    if not (folder / FILE).is_file():
        return []
    try:
        return eos_ids(GenerationConfig.from_pretrained(folder))
    except (ValueError, OSError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{folder / FILE}: can't be read, {' '.join(str(error).split())}") from error
