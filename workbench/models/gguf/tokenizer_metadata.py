"""A tokenizer in the words of a GGUF file, as llama.cpp reads it."""

import json
import logging
import re
from typing import Any

from gguf import GGUFWriter, TokenType
from transformers import PreTrainedTokenizerFast

from workbench.errors import CheckpointError

# llama.cpp knows a way of splitting text by name only (llama-vocab.cpp). The patterns are those of the models
# that the names stand for, as in their tokenizer.json.
CONTRACTIONS, REST = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST: "llama-bpe",
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST: "qwen2",
}
DIGIT_BY_DIGIT = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
HARMLESS = ("Prepend", "Replace")  # how LLaMA's own tokenizer.json says what llama.cpp does by itself

logger = logging.getLogger("workbench")


def describe_tokenizer(writer: GGUFWriter, tokenizer: PreTrainedTokenizerFast, rows: int) -> None:
    """Add the vocabulary, its kinds of tokens, and how text is split and merged.

    Args:
        writer: Of the file.
        tokenizer: Of the model.
        rows: Of the embedding; the vocabulary is filled up to them.

    Raises:
        CheckpointError: a tokenizer that llama.cpp has no kind for.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    if state["model"]["type"] != "BPE":
        kind = state["model"]["type"]
        raise CheckpointError(f"export.format: llama.cpp has no {kind} tokenizers (only BPE)")
    by_id = {index: token for token, index in tokenizer.get_vocab().items()}
    tokens = [by_id.get(index, f"[PAD{index}]") for index in range(rows)]
    fallback: bool = state["model"]["byte_fallback"]
    merges: list[tuple[str, str]] = [tuple(merge) for merge in state["model"]["merges"]]
    for normalizer in _parts(state["normalizer"], "normalizers"):
        if normalizer["type"] not in HARMLESS:
            logger.warning(f"export.format: llama.cpp will not apply the tokenizer's {normalizer['type']}")
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
    kinds = [_token_type(by_id.get(index), added, tokenizer.unk_token, fallback) for index in range(rows)]
    writer.add_token_types(kinds)
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


def _token_type(
    token: str | None, added: dict[str, bool], unknown: str | None, byte_fallback: bool
) -> TokenType:
    """The kind of a token; None is a row of the embedding without one."""
    if token is None:
        return TokenType.UNUSED
    if byte_fallback and token == unknown:
        return TokenType.UNKNOWN
    if token in added:
        return TokenType.CONTROL if added[token] else TokenType.USER_DEFINED
    if byte_fallback and re.fullmatch("<0x[0-9A-F]{2}>", token):
        return TokenType.BYTE
    return TokenType.NORMAL


def _parts(component: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    """The members of a component of tokenizer.json: of a sequence each, else itself."""
    if component is None:
        return []
    return list(component[key]) if component["type"] == "Sequence" else [component]


def _split_name(pre_tokenizer: dict[str, Any] | None) -> str:
    """llama.cpp's name of the way text is split before merging.

    Raises:
        CheckpointError: it has none.
    """
    parts = _parts(pre_tokenizer, "pretokenizers")
    kinds = [part["type"] for part in parts]
    last: dict[str, Any] = parts[-1] if parts else {}
    if kinds[-1:] == ["ByteLevel"] and not last["add_prefix_space"]:
        if kinds == ["ByteLevel"] and last["use_regex"]:
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and parts[0]["individual_digits"] and last["use_regex"]:
            return "smollm"
        if kinds == ["Split", "ByteLevel"] and parts[0]["pattern"].get("Regex") in SPLITS:
            return SPLITS[parts[0]["pattern"]["Regex"]]
    raise CheckpointError(
        f"export.format: gguf: llama.cpp has no name for a tokenizer that splits by {' and '.join(kinds)} "
        "(export.format=llama holds any)"
    )
