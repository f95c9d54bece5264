"""The evaluate section: which models are scored, in which batches, and with which intervals."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from workbench.config.benchmark import BenchmarkConfig
from workbench.config.data import DataConfig
from workbench.config.names import MODELS
from workbench.config.ranges import check_ranges, number
from workbench.errors import ConfigError

TooLong = Enum(
    "TooLong",
    {
        "refuse": "refuse",
        "truncate-left": "truncate-left",
        "truncate-middle": "truncate-middle",
        "skip": "skip",
    },
)
"""What becomes of an item that is longer than the model's context without few-shot examples."""


NOT_SCORED_FROM = ("models", "name", "batch_tokens", "shared_prefix", "verify", "cache")
"""Present and former keys of the evaluate section that don't change a score."""


@dataclass(kw_only=True)
class EvaluateConfig:
    r"""Scoring: which models, batches, few-shot seed, confidence intervals.

    Example:
        python -m workbench recipe=evaluate run_dir=runs/NAME \
            'benchmark=[hellaswag]' 'evaluate.models=[base,adapter]'
    """

    models: list[str] = field(default_factory=lambda: list(MODELS))
    """Models to score, where the run has them. base: in the run's quantization. adapter: base with adapter.
    merged: the merged folder. trained: the model of a training with adapter=none."""
    name: str | None = None
    """Name of the run's model on the leaderboard: of its trained model, else of its base. null: made of the
    settings that differ between the models there, such as quantization, rank, learning rate or seed."""
    batch_tokens: int | None = number(None, 1, 10**9)
    """Tokens per forward pass. null: 4096; for a causal model on a CPU 512. Lower it when memory runs out. It
    changes float32 scores by rounding only. In bfloat16, NF4 and int8 a log-likelihood can change by 0.12
    nats; evaluate.invariant=true prevents that."""
    shared_prefix: bool = True
    """true computes the tokens that prompts have in common once. false computes each prompt alone, which is
    slower, to check the scores."""
    invariant: bool = False
    """true gives bit-identical scores for any batch size, number of processes and point of resume. It is
    slower; `invariant_cost` in run.json tells by which factor. What is computed together is then one item's
    texts: on a GPU the kernel of a 4-bit layer depends on the number of tokens, and the columns that int8
    multiplies unquantized on all tokens of a pass. Another GPU gives other bits. recipe=predict then answers
    each prompt alone, as recipe=chat does."""
    verify: int = number(0, 0, 10**9)
    """Number of items to score a second time, one by one. A difference beyond rounding is an error. 0:
    none."""
    chat_template: bool = False
    """true wraps prompts in the tokenizer's chat template. For chat models. A benchmark or its protocol may
    say otherwise: the protocols chat and chat-cot always take it."""
    template_arguments: dict[str, Any] = field(default_factory=dict)
    """Variables of the chat template, as in {enable_thinking: false}. Refused where no prompt takes a chat
    template. Empty: as data.template_arguments."""
    system: str = ""
    """Text at the start of each prompt, before the description of the benchmark: in a chat template the
    system message. As system_instruction of lm-evaluation-harness, also for its tasks."""
    fewshot_as_turns: bool = True
    """true writes few-shot examples as turns of the chat: question by the user, answer by the assistant.
    false, which needs a chat template, writes them into the user's turn, before the question."""
    max_length: int | None = number(None, 1, 2**24)
    """Most tokens of a prompt with its answer. Of a longer prompt the first few-shot examples are left out;
    evaluate.too_long is for questions that are too long by themselves. null: the model's context length."""
    too_long: TooLong = TooLong.refuse
    """What becomes of a question that is too long even without few-shot examples. refuse: an error before the
    model is loaded. truncate-left: its first characters are left out. truncate-middle: characters in its
    middle are, as in LongBench. skip: the item is not scored. All but refuse skip an item whose answers alone
    are too long. Scores say how many items were cut and skipped; a benchmark of which no item fits has none,
    and the board says so. Texts of perplexity benchmarks are read in windows, and prompts of lm-eval tasks
    are cut at the start, whatever is set here."""
    fewshot_seed: int = number(1234, 0, 2**63 - 1)
    """Seed of random few-shot examples and of sampled answers. It differs from `seed`, so that runs with
    different seeds are asked the same."""
    temperature: float | None = number(None, 0, 100)
    """Temperature of all generated answers; null: that of each benchmark, mostly 0. Above 0 tokens are drawn,
    by the item's id and fewshot_seed, so that an answer depends on no other item."""
    top_p: float | None = number(None, 0, 1, above=True)
    """Draw from the most likely tokens whose probabilities add up to this; null: as each benchmark says."""
    top_k: int | None = number(None, 0, 10**6)
    """Number of most likely tokens to draw from, 0: all; null: as each benchmark says."""
    repetition_penalty: float | None = number(None, 0, 100, above=True)
    """Makes tokens of the prompt and of the answer so far less likely, 1: doesn't; null: as each benchmark
    says."""
    samples: int = number(1, 1, 1000)
    """Number of answers to each item of benchmarks of generated texts, drawn at a temperature above 0. A
    score is the mean over an item's answers; intervals and tests count each item once. Of answers that are
    right or wrong there are METRIC,pass@k (the unbiased estimate that one of k is right, for k of 2, 4, ...
    and all) and METRIC,maj@n (of the answer that most of the n texts state; of equal counts the one that was
    drawn first; texts that state none have no vote). More answers add to those that are cached. Tasks of
    lm-eval have `repeats` of their own."""
    thinking_budget: int | None = number(None, 1, 10**6)
    """Most tokens of a thought, which the prompt or the text opens by `<think>` and the model ends by
    `</think>`. Where the budget is used up, the sentence of Qwen3's documentation closes the thought, and the
    model writes its answer; scores say in how many texts. max_new_tokens and stop count for the answer alone.
    Texts without a thought don't change. Not for protocol=lm-eval and tasks of lm-eval, which read thoughts
    as lm-evaluation-harness does. null: as each benchmark says, mostly max_new_tokens for both together."""
    permutations: int = number(1, 1, 26)
    """Number of orders in which the options of a lettered question are asked. Their average cancels a
    preference for a letter. 1: the given order. Time grows by this factor. Needs benchmarks.NAME.options."""
    confidence: float = number(0.95, 0, 1, above=True, below=True)
    """Confidence level of the intervals. Bootstrap intervals are made from 2,000 resamples; for scores that
    are not a mean of items (F1, BLEU, perplexity) from 200."""

    def __post_init__(self) -> None:
        """Refuse unknown models and numbers out of range."""
        if not self.models:
            raise ConfigError(f"evaluate.models: none (some of {', '.join(MODELS)})")
        unknown = [name for name in self.models if name not in MODELS]
        if unknown:
            raise ConfigError(f"evaluate.models: unknown model {unknown[0]!r} (known: {', '.join(MODELS)})")
        if self.name is not None and not self.name.strip():
            raise ConfigError("evaluate.name: empty (a name, or null)")
        check_ranges(self, "evaluate")


def takes_chat_template(benchmark: BenchmarkConfig, evaluate: EvaluateConfig) -> bool:
    """Return whether a benchmark's prompts take the chat template.

    The benchmark's own setting precedes that of its protocol, and both precede `evaluate.chat_template`.
    """
    protocol = benchmark.protocols.get(benchmark.protocol)
    settings = (benchmark.chat_template, protocol.chat_template if protocol else None)
    return next((setting for setting in settings if setting is not None), evaluate.chat_template)


def check_chat_settings(evaluate: EvaluateConfig, benchmarks: Iterable[BenchmarkConfig]) -> None:
    """Check that settings of chats have an effect on the prompts of a benchmark.

    Raises:
        ConfigError: One is set, and no prompt takes a chat template.
    """
    settings = {"template_arguments": ", ".join(evaluate.template_arguments)}
    settings["fewshot_as_turns"] = "" if evaluate.fewshot_as_turns else "false"
    name, value = next(((name, value) for name, value in settings.items() if value), ("", ""))
    if name and not uses_chat_template(evaluate, benchmarks):
        raise ConfigError(
            f"evaluate.{name}: {value} has no effect without a chat template "
            "(evaluate.chat_template=true, or leave it out)"
        )


def uses_chat_template(evaluate: EvaluateConfig, benchmarks: Iterable[BenchmarkConfig]) -> bool:
    """Return whether `evaluate.chat_template` is true, or any benchmark's prompts take the chat template."""
    return evaluate.chat_template or any(takes_chat_template(config, evaluate) for config in benchmarks)


def with_template_arguments(
    evaluate: EvaluateConfig, data: DataConfig, benchmarks: Iterable[BenchmarkConfig]
) -> EvaluateConfig:
    """Return the evaluate section, with the template arguments of the data section if it has none itself.

    With arguments of its own, or if no prompt takes a chat template, the section is returned unchanged.

    Args:
        evaluate: The section.
        data: The data section.
        benchmarks: The chosen benchmarks, some of which may take a chat template.

    Raises:
        ConfigError: The sources of the data have different template arguments.
    """
    if not uses_chat_template(evaluate, benchmarks) or evaluate.template_arguments:
        return evaluate
    for name in data.sources:
        if (arguments := data.of_source(name).template_arguments) != data.template_arguments:
            raise ConfigError(
                f"evaluate.template_arguments: not given, and data.sources.{name} has {arguments} of its own "
                f"(write which the prompts get, as evaluate.template_arguments.{next(iter(arguments))}=...)"
            )
    return replace(evaluate, template_arguments=dict(data.template_arguments))
