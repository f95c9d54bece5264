"""Converts tiktoken files, the tokenizers of Qwen 1 and GLM-4, to fast tokenizers with the same ids.

A tiktoken file has a line for each token: its bytes in base64, and its rank, which is its id.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, normalizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from workbench.errors import CheckpointError
from workbench.files import LONGEST_JSON
from workbench.models.checkpoints.state_dict import read_json_object
from workbench.models.tokenizers.copied_settings import copied_settings
from workbench.models.tokenizers.tokenizer_bounds import MAX_TOKENS

LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) (\d{1,9})")
MAX_BYTES = 512
"""Largest number of bytes of a token; the longest tokens of known tokenizers are runs of 128 spaces."""
END = "<|endoftext|>"
"""End token of all these tokenizers, with which texts are padded, too."""


@dataclass(frozen=True, kw_only=True)
class TokenizerKind:
    """Settings of a tokenizer class that are in its Python code, not in its tiktoken file."""

    numbers: str
    """Regular expression of digits that form one word."""
    special: tuple[str, ...]
    """Special tokens; their ids follow those in the file."""
    prefix: tuple[str, ...] = ()
    """Tokens that are put before every text."""
    is_composed: bool = False
    """Whether texts are converted to Unicode's NFC form."""

    @property
    def pattern(self) -> str:
        """Return the regular expression that splits a text into words, which no token crosses."""
        return (
            rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{self.numbers}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )


KINDS = {
    # tokenization_qwen.py of huggingface.co/Qwen/Qwen-7B
    "QWenTokenizer": TokenizerKind(
        numbers=r"\p{N}",
        special=(END, "<|im_start|>", "<|im_end|>", *(f"<|extra_{number}|>" for number in range(205))),
        is_composed=True,
    ),
    # tokenization_chatglm.py of huggingface.co/THUDM/glm-4-9b
    "ChatGLM4Tokenizer": TokenizerKind(
        numbers=r"\p{N}{1,3}",
        special=(
            *(END, "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>"),
            *("<|assistant|>", "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>"),
            *("<|begin_of_video|>", "<|end_of_video|>"),
        ),
        prefix=("[gMASK]", "<sop>"),
    ),
}
QWEN_FILE = "qwen.tiktoken"
SETTINGS = "tokenizer_config.json"


class _Converter(TikTokenConverter):
    """Transformers' converter of tiktoken ranks, given ranks that are read already.

    Its own reader needs the package tiktoken.
    """

    def __init__(self, ranks: dict[bytes, int], pattern: str) -> None:
        super().__init__(pattern=pattern)  # type: ignore[no-untyped-call]
        self.ranks = ranks

    def load_tiktoken_bpe(self, tiktoken_url: str | None) -> dict[bytes, int]:  # type: ignore[override]
        return self.ranks


def is_tiktoken(file: Path) -> bool:
    """Return whether the first line of a file has the form of a tiktoken file: base64, and a number."""
    with file.open("rb") as opened:
        first = opened.readline(2 * MAX_BYTES)
    return LINE.fullmatch(first.strip()) is not None


def read_ranks(file: Path, limit: int = MAX_TOKENS) -> dict[bytes, int]:
    """Return token (bytes) -> rank for a tiktoken file with at most `limit` tokens.

    Raises:
        CheckpointError: The file is damaged or has more tokens, its ranks aren't 0, 1, 2, ..., or a byte has
            no token.
    """
    if (size := file.stat().st_size) > LONGEST_JSON:
        raise CheckpointError(f"{file}: {size:,} bytes (at most {LONGEST_JSON:,})")
    ranks: dict[bytes, int] = {}
    lines = [line for line in file.read_bytes().splitlines() if line.strip()]
    if len(lines) > limit:
        raise CheckpointError(f"{file}: {len(lines):,} tokens, but the model's embedding has {limit:,} rows")
    for number, line in enumerate(lines, start=1):
        token, rank = _entry(line, f"{file}: line {number}")
        if token in ranks:
            raise CheckpointError(f"{file}: line {number}: the token {token!r:.60} occurs twice")
        ranks[token] = rank
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise CheckpointError(f"{file}: the ranks are not 0 to {len(ranks) - 1:,}, each once")
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise CheckpointError(f"{file}: there is no token for the byte {missing[0]}")
    return ranks


def _entry(line: bytes, where: str) -> tuple[bytes, int]:
    """Parse one line of a tiktoken file; return token and rank.

    Raises:
        CheckpointError: The line isn't base64 and a number, or the token is too long.
    """
    match = LINE.fullmatch(line.strip())
    try:
        token = base64.b64decode(match[1], validate=True) if match else b""
    except binascii.Error:
        token = b""
    if match is None or not token:
        raise CheckpointError(f"{where}: not a token in base64 and its rank")
    if len(token) > MAX_BYTES:
        raise CheckpointError(f"{where}: a token has {len(token):,} bytes (at most {MAX_BYTES})")
    return token, int(match[2])


def build(ranks: dict[bytes, int], kind: TokenizerKind) -> Tokenizer:
    """Convert the result of `read_ranks` to a tokenizer of the tokenizers library, with special tokens."""
    tokenizer: Tokenizer = _Converter(ranks, kind.pattern).converted()
    if kind.is_composed:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=True) for token in kind.special])
    if kind.prefix:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[*kind.prefix, "$A"],
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in kind.prefix],
        )
    return tokenizer


def read_tokenizer(file: Path, rows: int | None = None) -> PreTrainedTokenizerFast:
    """Read the tokenizer of a tiktoken file, with the settings of a tokenizer_config.json in its folder.

    Args:
        file: The tiktoken file.
        rows: Number of rows of the embedding, which limits the vocabulary; None: unknown.

    Raises:
        CheckpointError: The file is damaged, or its tokenizer class is unknown, which determines how texts
            are split into words.
    """
    settings_file = file.parent / SETTINGS
    settings = read_json_object(settings_file) if settings_file.is_file() else {}
    name = settings.get("tokenizer_class", "QWenTokenizer" if file.name == QWEN_FILE else None)
    if name not in KINDS:
        raise CheckpointError(
            f"{file}: tiktoken files of the tokenizer_class {name!r:.60} are not supported (known: "
            f"{', '.join(KINDS)}; or a folder with a tokenizer.json)"
        )
    kind = KINDS[name]
    backend = build(read_ranks(file, rows or MAX_TOKENS), kind)
    _check_added(backend, settings.get("added_tokens_decoder") or {}, settings_file)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        eos_token=END,
        pad_token=END,
        **copied_settings(settings, file.parent),
    )


def _check_added(backend: Tokenizer, listed: dict[str, Any], file: Path) -> None:
    """Check that tokens in tokenizer_config.json have the ids that their class gives them.

    Raises:
        CheckpointError: An id differs; the message names the token.
    """
    for index, described in listed.items():
        text = described.get("content") if isinstance(described, dict) else described
        if (own := backend.token_to_id(str(text))) != int(index):
            raise CheckpointError(f"{file}: added_tokens_decoder: {text!r:.60} has the id {own}, not {index}")
