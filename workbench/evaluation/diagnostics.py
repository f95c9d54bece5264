"""Logs warnings, on rank 0, about a benchmark's questions: tokens of letters, dropped few-shot examples."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.data.tokens.segments import special_frame
from workbench.distributed import is_rank0
from workbench.evaluation.benchmarks.option_orders import letters
from workbench.evaluation.inference.language_model import LanguageModel
from workbench.evaluation.metrics.text_counts import IN_THOUGHT, LENGTH, STOP, TEXTS
from workbench.evaluation.prepared_benchmark import Asked, PreparedBenchmark
from workbench.evaluation.records import Answer
from workbench.evaluation.tasks.answerer import Answerer
from workbench.evaluation.tasks.multiple_choice import MultipleChoice
from workbench.evaluation.tasks.requests import Item

log = logging.getLogger("workbench")


def warn_of_letters(benchmark: PreparedBenchmark, answerer: Answerer, item: Item) -> None:
    """Warn if a protocol scores the letters by other tokens than those of the text "prompt + letter".

    `item`, any one of the benchmark's, is encoded to find out.
    """
    warning = answerer.letter_warning(item) if isinstance(answerer, MultipleChoice) else None
    if warning and is_rank0():
        log.warning("benchmarks.%s: %s", benchmark.name, warning)


def warn_of_closed_texts(name: str, lm: LanguageModel) -> None:
    """Warn, if the tokenizer puts a token after every text, that scores differ from the harness's.

    The token is removed between prompt and answer, where lm-evaluation-harness keeps it.
    """
    suffix = special_frame(lm.tokenizer)[1]
    if suffix and is_rank0():
        log.warning(
            "benchmarks.%s: the tokenizer puts %s after every text; this token is removed between prompt "
            "and answer, where lm-evaluation-harness keeps it",
            name,
            ", ".join(repr(token) for token in lm.tokenizer.convert_ids_to_tokens(suffix)),
        )


def warn_of_same_tokens(benchmark: PreparedBenchmark, answerer: Answerer) -> None:
    """Warn about items in which two choices have the same tokens, so that they get the same score.

    Items that `answerer` has encoded so far count (`MultipleChoice.same_tokens`).
    """
    same_tokens = answerer.same_tokens if isinstance(answerer, MultipleChoice) else {}
    if same_tokens and is_rank0():
        name, (first, second) = next(iter(same_tokens.items()))
        log.warning(
            "benchmarks.%s: %d items have two choices that are scored by the same tokens, so their scores "
            "are equal and the first choice counts (item %s: %r and %r)",
            benchmark.name,
            len(same_tokens),
            name,
            first,
            second,
        )


def warn_of_shots(benchmark: PreparedBenchmark, items: Sequence[Item], longest: int) -> None:
    """Warn about few-shot examples that were dropped because prompts were longer than `longest` tokens."""
    dropped = [item.num_shots_dropped for item in items if item.num_shots_dropped]
    if dropped and is_rank0():
        log.warning(
            "benchmarks.%s: %d few-shot examples were dropped from the prompts of %d of %d items, which "
            "would be longer than %d tokens",
            benchmark.name,
            sum(dropped),
            len(dropped),
            len(items),
            longest,
        )


def warn_of_begin_tokens(name: str, lm: LanguageModel, items: Sequence[Item]) -> None:
    """Warn if chat prompts begin with a token of the tokenizer that the chat template doesn't write.

    lm-evaluation-harness adds it; training rows, `recipe=chat` and `recipe=predict` have what the template
    writes, as in transformers' `apply_chat_template`.
    """
    begin = lm.tokenizer.convert_ids_to_tokens(special_frame(lm.tokenizer)[0])
    if begin and not items[0].contexts[0].startswith(begin[0]) and is_rank0():
        log.warning(
            "benchmarks.%s: prompts begin with %s, as in lm-evaluation-harness; the chat template doesn't "
            "write it, and training rows, recipe=chat and recipe=predict are without",
            name,
            ", ".join(map(repr, begin)),
        )


def warn_of_open_thoughts(
    name: str, counts: Mapping[str, int], ends: Mapping[str, int], budget: int | None, ways: Sequence[str]
) -> None:
    """Warn about generated texts that end within a thought (`<think>`), before any answer to score.

    Args:
        name: the benchmark.
        counts: the counts of `text_counts`.
        ends: finish reasons of these texts, by `open_ends`.
        budget: tokens of a thinking budget, within which the model ended these texts; None: no budget is set.
        ways: settings that this run takes and that leave room for an answer.
    """
    if not (num_open := counts.get(IN_THOUGHT, 0)) or not is_rank0():
        return
    reasons = {
        LENGTH: "cut off by generation.max_new_tokens",
        STOP: "ended by the model or by generation.stop",
        "": "ended for a reason that isn't told",
    }
    ended = [
        reason if ends[key] == num_open else f"{ends[key]} {reason}"
        for key, reason in reasons.items()
        if ends.get(key)
    ]
    if budget is not None:
        ended = [f"which the model ended within the {budget:,} tokens of its budget"]
    elif ends.get(LENGTH):
        ways = (*ways, f"a larger benchmarks.{name}.generation.max_new_tokens leaves room")
    log.warning(
        "benchmarks.%s: %d of %d answers end within a thought (<think>), %s, and so have no answer%s",
        *(name, num_open, counts[TEXTS], ", ".join(ended), f" ({', '.join(ways)})" if ways else ""),
    )


def ways_out_of_thoughts(config: BenchmarkConfig, is_rendered: bool, in_chat: bool) -> list[str]:
    """Return what closes or prevents thoughts, as far as the benchmark takes it, for a warning.

    Args:
        config: configuration of the benchmark.
        is_rendered: whether prompts are rendered here, and not by an endpoint that is asked by chats.
        in_chat: whether prompts take the chat template.
    """
    ways = []
    if is_rendered and config.generation.thinking_budget is None and config.protocol != "lm-eval":
        ways.append("evaluate.thinking_budget=2000 closes a thought")
    if is_rendered and in_chat:
        ways.append(
            "evaluate.template_arguments={enable_thinking: false} asks for none where the template has it"
        )
    return ways


def letter_fields(
    benchmark: PreparedBenchmark, questions: Sequence[Asked], answers: Sequence[Answer]
) -> dict[str, object]:
    """Return the fields `letters` and `permutations` of a Score; empty if the benchmark sets no `options`.

    `letters` counts how often each letter was the most likely, over all questions and option orders, or how
    often generated texts state it; `permutations` is the largest number of option orders of a question.

    Args:
        benchmark: the benchmark.
        questions: all questions with their answers.
        answers: one answer per question, with the answer that was extracted from its text.
    """
    if not benchmark.config.options:
        return {}
    if benchmark.config.output_type is OutputType.generation:
        choices = {letter for question in questions for letter in question.items[0].example.choices}
        return {"letters": {c: sum(answer.extracted == c for answer in answers) for c in sorted(choices)}}
    counts: Counter[str] = Counter()
    for question in questions:
        counts += letters(question.items[0].example, question.answers)
    orders = max(len(question.items) for question in questions)
    all_letters = sorted({letter for question in questions for letter in question.items[0].example.choices})
    return {"letters": {letter: counts[letter] for letter in all_letters}, "permutations": orders}
