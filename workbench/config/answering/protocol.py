"""Named protocols of a benchmark: ways of asking, answering and scoring that replace the benchmark's own."""

from dataclasses import dataclass
from enum import Enum

from workbench.config.ranges import number

OutputType = Enum(
    "OutputType",
    {
        "multiple_choice": "multiple_choice",
        "generation": "generation",
        "classification": "classification",
        "perplexity": "perplexity",
        "lm-eval": "lm-eval",
        "answer_loss": "answer_loss",
    },
)
"""Kind of answer that a benchmark asks for: a choice, a text, a label or a likelihood."""

Scoring = Enum(
    "Scoring",
    {
        "continuation": "continuation",
        "whole-text": "whole-text",
        "rolling": "rolling",
        "next-token": "next-token",
        "next-piece": "next-piece",
        "mean-nll": "mean-nll",
    },
)
"""How the log-likelihood of a choice, or of a perplexity benchmark's text, is computed."""

Average = Enum("Average", {"micro": "micro", "macro": "macro"})
"""How the scores of a benchmark's subsets become one score."""

FewshotOrder = Enum(
    "FewshotOrder",
    {"first": "first", "random": "random", "harness": "harness", "harness-spare": "harness-spare"},
)
"""Which rows become few-shot examples."""


@dataclass(kw_only=True)
class ProtocolConfig:
    """Values that a protocol sets in place of the benchmark's own; None: the benchmark's value applies."""

    output_type: OutputType | None = None
    """Replaces `output_type` of the benchmark: generation, where a benchmark of choices is answered with a
    text, or multiple_choice. null: unchanged."""
    chat_template: bool | None = None
    """Whether prompts take the chat template, if `chat_template` of the benchmark is null. null: as
    evaluate.chat_template."""
    description: str | None = None
    """Replaces `description` of the benchmark. null: unchanged."""
    question: str | None = None
    """Replaces `question` of the benchmark. null: unchanged."""
    choices_from: str | None = None
    """Replaces `choices_from` of the benchmark. null: unchanged."""
    target: str | None = None
    """Replaces `target` and `target_index` of the benchmark. null: unchanged."""
    continuation: str | None = None
    """Replaces `continuation` of the benchmark. null: unchanged."""
    delimiter: str | None = None
    """Replaces `delimiter` of the benchmark. null: unchanged."""
    fewshot_delimiter: str | None = None
    """Replaces `fewshot_delimiter` of the benchmark. null: unchanged."""
    fewshot_split: str | None = None
    """Replaces `fewshot_split` of the benchmark. null: unchanged."""
    fewshot_order: FewshotOrder | None = None
    """Replaces `fewshot_order` of the benchmark. null: unchanged."""
    num_fewshot: int | None = number(None, 0, 10**4)
    """Replaces `num_fewshot` of the benchmark. null: unchanged."""
    scoring: Scoring | None = None
    """Replaces `scoring` of the benchmark. null: unchanged."""
    average: Average | None = None
    """Replaces `average` of the benchmark. null: unchanged."""
    metrics: list[str] | None = None
    """Replaces `metrics` of the benchmark. null: unchanged."""
    stop: list[str] | None = None
    """Replaces `generation.stop` of the benchmark: a chat answer ends with its turn, []. null: unchanged."""
