"""Writes a tokenizer into a GGUF file's metadata in llama.cpp's form."""

import json
import logging
import re
from typing import Any

from gguf import GGUFWriter, TokenType
from transformers import PreTrainedTokenizerFast

from workbench.errors import CheckpointError

# llama.cpp knows pre-tokenizers by name only (llama-vocab.cpp). The patterns are from the tokenizer.json of
# the models after which llama.cpp names them.
CONTRACTIONS, REST = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST: "llama-bpe",
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST: "qwen2",
}
DIGIT_BY_DIGIT = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
IMPLIED_NORMALIZERS = ("Prepend", "Replace")
"""Normalizers of LLaMA's own tokenizer.json, which llama.cpp applies without metadata."""

logger = logging.getLogger("workbench")


def describe_tokenizer(writer: GGUFWriter, tokenizer: PreTrainedTokenizerFast, rows: int) -> None:
    """Add a tokenizer to a GGUF file's metadata: vocabulary, pre-tokenizer, special tokens, chat template.

    The log warns of normalizers that llama.cpp doesn't apply.

    Args:
        writer: Writer of the GGUF file, which writes the metadata later.
        tokenizer: Tokenizer of the model.
        rows: Number of rows of the embedding; the vocabulary is padded to this size.

    Raises:
        CheckpointError: llama.cpp doesn't support the tokenizer.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    if state["model"]["type"] != "BPE":
        model_type = state["model"]["type"]
        raise CheckpointError(f"export.format: llama.cpp has no {model_type} tokenizers (only BPE)")
    for normalizer in _members(state["normalizer"], "normalizers"):
        if normalizer["type"] not in IMPLIED_NORMALIZERS:
            logger.warning(f"export.format: llama.cpp will not apply the tokenizer's {normalizer['type']}")
    _write_vocabulary(writer, tokenizer, state, rows)
    for kind in ("bos", "eos", "unk", "pad"):
        if (index := getattr(tokenizer, f"{kind}_token_id")) is not None:
            getattr(writer, f"add_{kind}_token_id")(index)
    encoded = tokenizer("a")["input_ids"]
    writer.add_add_bos_token(tokenizer.bos_token_id is not None and encoded[0] == tokenizer.bos_token_id)
    writer.add_add_eos_token(tokenizer.eos_token_id is not None and encoded[-1] == tokenizer.eos_token_id)
    template = tokenizer.chat_template
    if isinstance(template, dict):
        writer.add_chat_template([{"name": name, "template": text} for name, text in template.items()])
    elif template:
        writer.add_chat_template(template)


def _write_vocabulary(
    writer: GGUFWriter, tokenizer: PreTrainedTokenizerFast, state: dict[str, Any], rows: int
) -> None:
    """Write tokens, their types, and scores or merges; `state` is tokenizer.json's content."""
    by_id = {index: token for token, index in tokenizer.get_vocab().items()}
    tokens = [by_id.get(index, f"[PAD{index}]") for index in range(rows)]
    fallback: bool = state["model"]["byte_fallback"]
    merges: list[tuple[str, str]] = [tuple(merge) for merge in state["model"]["merges"]]
    if fallback:
        writer.add_tokenizer_model("llama")
        # SentencePiece joins the pair whose token has the highest score: the earlier the merge, the higher.
        ranks = {first + second: -float(i) for i, (first, second) in reversed(list(enumerate(merges)))}
        writer.add_token_scores([ranks.get(token, -float(len(merges))) for token in tokens])
        writer.add_add_space_prefix(tokenizer.tokenize("a")[0] != "a")
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_split_name(state["pre_tokenizer"]))
        writer.add_token_merges([f"{first} {second}" for first, second in merges])
    writer.add_token_list(tokens)
    added = {token["content"]: token["special"] for token in state["added_tokens"]}
    token_types = [
        _token_type(by_id.get(index), added, tokenizer.unk_token, fallback) for index in range(rows)
    ]
    writer.add_token_types(token_types)


def _token_type(
    token: str | None, added: dict[str, bool], unknown: str | None, byte_fallback: bool
) -> TokenType:
    """Return llama.cpp's type of a token; None stands for an embedding row without a token."""
    if token is None:
        return TokenType.UNUSED
    if byte_fallback and token == unknown:
        return TokenType.UNKNOWN
    if token in added:
        return TokenType.CONTROL if added[token] else TokenType.USER_DEFINED
    if byte_fallback and re.fullmatch("<0x[0-9A-F]{2}>", token):
        return TokenType.BYTE
    return TokenType.NORMAL


def _members(component: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    """Return the parts of a component of tokenizer.json: those of a sequence, or the component itself."""
    if component is None:
        return []
    return list(component[key]) if component["type"] == "Sequence" else [component]


def _split_name(pre_tokenizer: dict[str, Any] | None) -> str:
    """Return llama.cpp's name of a pre-tokenizer, such as llama-bpe.

    Raises:
        CheckpointError: llama.cpp doesn't have this pre-tokenizer.
    """
    steps = _members(pre_tokenizer, "pretokenizers")
    types = [step["type"] for step in steps]
    last: dict[str, Any] = steps[-1] if steps else {}
    if types[-1:] == ["ByteLevel"] and not last["add_prefix_space"]:
        if types == ["ByteLevel"] and last["use_regex"]:
            return "gpt-2"
        if types == ["Digits", "ByteLevel"] and steps[0]["individual_digits"] and last["use_regex"]:
            return "smollm"
        if types == ["Split", "ByteLevel"] and steps[0]["pattern"].get("Regex") in SPLITS:
            return SPLITS[steps[0]["pattern"]["Regex"]]
    raise CheckpointError(
        f"export.format: gguf: llama.cpp doesn't have the pre-tokenizer {' + '.join(types)} "
        "(export.format=llama supports all)"
    )
