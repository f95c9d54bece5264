"""What a checkpoint says about generating text, such that it can be written again."""

from transformers import GenerationConfig


def settle_generation(generation: GenerationConfig) -> str:
    """Make settings consistent that transformers would refuse to write again; what was done, in words.

    Old files give a temperature and leave out that it is for sampling.
    """
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
