"""How answers are generated, and which part of a generated text is the answer."""

from dataclasses import dataclass, field
from enum import Enum

from workbench.config.ranges import number

Extract = Enum(
    "Extract",
    {"verbatim": "verbatim", "number": "number", "letter": "letter", "pattern": "pattern", "code": "code"},
)
"""Which part of a generated text is the answer."""


@dataclass(kw_only=True)
class GenerationConfig:
    """How a benchmark's answers are generated, and which part of the text is the answer."""

    max_new_tokens: int = number(64, 1, 10**6)
    """Tokens after which an answer is cut off."""
    thinking_budget: int | None = number(None, 1, 10**6)
    """Tokens of a thought (`<think>`) after which it is closed, as evaluate.thinking_budget says; null: a
    thought counts as part of the answer."""
    stop: list[str] = field(default_factory=lambda: ["\n"])
    """Texts that end an answer; the answer is what comes before the first of them."""
    temperature: float = number(0.0, 0, 100)
    """0: the most likely token each time. Above 0: tokens are drawn, by the item's id and
    evaluate.fewshot_seed; a higher value gives more varied answers."""
    top_k: int = number(0, 0, 10**6)
    """Number of most likely tokens to draw from; 0: all tokens."""
    top_p: float = number(1.0, 0, 1, above=True)
    """Draw from the most likely tokens whose probabilities add up to this; 1: all tokens."""
    repetition_penalty: float = number(1.0, 0, 100, above=True)
    """Factor that makes tokens of the prompt and of the answer so far less likely, as in transformers, also
    without a temperature; 1: none."""
    extract: Extract = Extract.verbatim
    """Which part of the text is the answer. verbatim: all of it. number, letter: the one that the text
    states as its answer; of several unmarked numbers the last. A letter that the text only calls wrong is
    the answer to a question that asks for the wrong statement (`下列说法错误的是`), not to one that asks
    for the right one. pattern: what `generation.pattern` finds. code: the first block of Python between ```
    or ~~~ marks that has a function, else the first block; without marks all of it; a function's body whose
    first line, or each line, lacks its indentation gets it where that is Python. Thoughts (`<think>`) are
    removed first; with protocol=lm-eval, verbatim and pattern read them. The target is read the same way,
    except for code."""
    pattern: str = ""
    r"""Regular expression for `extract: pattern`, for answers that are neither a number nor a letter, such as
    `\\boxed\{(.*?)\}`. The answer is the first group of the last match."""
