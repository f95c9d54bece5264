"""Measures how far an exported GGUF file is from the model of which it was made."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.config.model import Attention, Dtype, ModelConfig
from workbench.config.publishing.export import GgufType
from workbench.config.quantization import QuantizationConfig
from workbench.contexts import evaluation_mode
from workbench.errors import CheckpointError
from workbench.machine import available_bytes
from workbench.models.exported import llama_cpp
from workbench.models.loading import load_model, outline
from workbench.models.token_divergence import divergences, text_logits
from workbench.models.tokenizers.load_tokenizer import load_tokenizer

log = logging.getLogger("workbench")

NUM_TEXTS, LONGEST = 8, 64
"""Texts that are compared, and tokens of each."""
NUM_CONTINUED, NUM_NEW = 4, 24
"""Texts that are continued greedily, and tokens by which."""
UNQUANTIZED = (GgufType.f32, GgufType.f16, GgufType.bf16)
ALLOWED_NATS = 0.05
"""Mean difference of a token's log-probability from which a file of unquantized weights is another model.
Measured with 135 million parameters: 0.001 in f32, 0.003 in f16, 0.1 in q8_0, 0.8 in q4_0."""
SPARE = 1.5
"""Memory that the comparison may take, as a multiple of the model's weights in float32."""


@dataclass(frozen=True, kw_only=True)
class FileDifference:
    """Difference between a GGUF file, computed by llama.cpp, and its model, computed in float32."""

    num_texts: int
    num_same_tokens: int
    """Texts of which both tokenizers make the same tokens; only these are compared."""
    num_tokens: int
    mean_nats: float
    """Mean absolute difference of a token's log-probability."""
    largest_nats: float
    kl: float
    """Mean Kullback-Leibler divergence of the file's next-token distributions from the model's, in nats."""
    num_agreeing: int
    """Tokens after which both have the same most likely next token."""
    num_continued: int
    num_equal_texts: int
    """Greedy texts that are equal, of `num_continued`."""

    @property
    def summary(self) -> str:
        """The difference in one line."""
        return (
            f"log-probabilities differ by {self.mean_nats:.2g} nats a token in the mean and "
            f"{self.largest_nats:.2g} at most, KL {self.kl:.2g}; equal are {self.num_agreeing} of "
            f"{self.num_tokens} most likely next tokens and {self.num_equal_texts} of {self.num_continued} "
            "greedy texts"
        )


def measure_file(
    file: Path, model: ModelConfig, gguf_type: GgufType, texts: Sequence[str]
) -> FileDifference | None:
    """Compare a GGUF file with the model at `model.path`; both are loaded, one after the other.

    Returns:
        None, with the reason in the log, if llama-cpp-python isn't installed or memory is short.

    Raises:
        CheckpointError: The file has another tokenizer, or, without quantized weights, another model.
    """
    if not llama_cpp.is_installed():
        log.info(
            "export: not compared with the model, because %s isn't installed (pip install %s)",
            llama_cpp.PACKAGE,
            llama_cpp.PACKAGE,
        )
        return None
    plain = replace(model, dtype=Dtype.float32, attention=Attention.sdpa)
    needed = int(SPARE * 4 * outline(plain).num_parameters())
    if needed > available_bytes():
        log.warning(
            "export: not compared with the model, which takes %.1f GB in float32; %.1f GB are free",
            needed / 1e9,
            available_bytes() / 1e9,
        )
        return None
    tokenizer = load_tokenizer(plain)
    chosen = [text for text in dict.fromkeys(texts) if text.strip()][:NUM_TEXTS]
    rows = [list(tokenizer(text)["input_ids"])[:LONGEST] for text in chosen]
    reference = load_model(plain, QuantizationConfig())
    with evaluation_mode(reference), torch.no_grad():
        expected = list(text_logits(reference, rows))
        continued = [_continued(reference, row) for row in rows[:NUM_CONTINUED]]
    del reference
    with llama_cpp.opened(file, LONGEST + NUM_NEW) as served:
        same = [served.tokens(text)[:LONGEST] == row for text, row in zip(chosen, rows, strict=True)]
        if not any(same):
            raise CheckpointError(
                f"{file}: its tokenizer makes other tokens of all {len(same)} texts than the model's in "
                "llama.cpp"
            )
        logits = [served.logits(row) for row in rows]
        equal = [served.continued(row, NUM_NEW) == new for row, new in zip(rows, continued, strict=False)]
    difference = _difference(rows, expected, logits, same, equal)
    log.info("export: %s, read by llama.cpp: %s", file, difference.summary)
    if difference.num_same_tokens < len(rows):
        log.warning(
            "export: %s: %d of %d texts have other tokens in llama.cpp than with the model's tokenizer",
            file,
            len(rows) - difference.num_same_tokens,
            len(rows),
        )
    if gguf_type in UNQUANTIZED and not difference.mean_nats <= ALLOWED_NATS:
        raise CheckpointError(f"{file}: llama.cpp computes another model from it: {difference.summary}")
    return difference


def _difference(
    rows: Sequence[Sequence[int]],
    expected: Sequence[Tensor],
    logits: Sequence[Tensor],
    same: Sequence[bool],
    equal: Sequence[bool],
) -> FileDifference:
    gaps = torch.cat(
        [
            (_logprobs(ours, row) - _logprobs(theirs, row)).abs()
            for row, ours, theirs in zip(rows, expected, logits, strict=True)
        ]
    )
    texts = divergences(expected, logits)
    num_tokens = sum(text.num_tokens for text in texts)
    return FileDifference(
        num_texts=len(rows),
        num_same_tokens=sum(same),
        num_tokens=num_tokens,
        mean_nats=gaps.mean().item(),
        largest_nats=gaps.max().item(),
        kl=sum(text.kl for text in texts) / num_tokens,
        num_agreeing=sum(text.num_agreeing for text in texts),
        num_continued=len(equal),
        num_equal_texts=sum(equal),
    )


def _logprobs(logits: Tensor, row: Sequence[int]) -> Tensor:
    """Return the log-probability (T - 1,) of each token but the first, by logits (T, V)."""
    index = torch.tensor(row[1:])[:, None]
    return logits[:-1].double().log_softmax(-1).gather(-1, index)[:, 0]


def _continued(model: PreTrainedModel, row: Sequence[int]) -> list[int]:
    """Return the most likely tokens after a text, one after the other."""
    new: list[int] = []
    for _ in range(NUM_NEW):
        (logits,) = text_logits(model, [[*row, *new]])
        new.append(int(logits[-1].argmax()))
    return new
