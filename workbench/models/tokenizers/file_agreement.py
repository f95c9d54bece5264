"""Compares a loaded tokenizer with its tokenizer.json, which some classes of transformers don't follow."""

from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

PROBES = (
    "The capital of France isn't Paris' 1st; it's 12,345.67 km away.",
    "  two  spaces\n\n\n    and = indented(code)  # 3.14\t\r\n",
    "巴黎是法国的首都，对吗？“是的”，2024年1月31日——１２３。",
    "naïve Über-Straße, Привет мир, こんにちは, 안녕 🙂!",
)
"""Trial texts, with contractions, digits, white space and scripts, which split patterns treat differently."""


def difference(tokenizer: PreTrainedTokenizerFast, file: Path) -> str | None:
    """Return a warning if a loaded tokenizer gives other ids than its tokenizer.json on PROBES; else None.

    None also for a file with BPE dropout, whose ids are random.

    transformers 5.23 gives the tokenizer of a Qwen2 its own split pattern, whatever the file has.

    Args:
        tokenizer: The tokenizer as loaded.
        file: Its tokenizer.json.
    """
    own = Tokenizer.from_file(str(file))
    own.no_padding()
    own.no_truncation()
    if getattr(own.model, "dropout", None):
        return None  # the file's ids are random
    for text in PROBES:
        theirs = own.encode(text, add_special_tokens=False).ids
        loaded = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        if loaded == theirs:
            continue
        pairs = enumerate(zip(loaded, theirs, strict=False))
        at = next((index for index, (ours, other) in pairs if ours != other), 0)
        first, second = (tokenizer.convert_ids_to_tokens(ids[at : at + 3]) for ids in (loaded, theirs))
        return (
            f"{file}: transformers' {type(tokenizer).__name__} gives other tokens than this file, as {first} "
            f"for {second}. Trained and scored is what transformers gives; programs that read the file alone "
            "differ (to use the file's: copy it and tokenizer_config.json, with tokenizer_class "
            "TokenizersBackend, into a folder without config.json, and name that in model.tokenizer)"
        )
    return None
