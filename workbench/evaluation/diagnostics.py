"""What is worth saying of a benchmark's questions once they are asked: letters, and examples left out."""

import logging
from collections import Counter
from collections.abc import Sequence

from workbench.data.tokens.segments import special_frame
from workbench.distributed import rank_and_world_size
from workbench.evaluation.benchmarks.option_orders import letters
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.prepared_benchmark import Asked, PreparedBenchmark
from workbench.evaluation.tasks.answerer import Answerer
from workbench.evaluation.tasks.multiple_choice import MultipleChoice
from workbench.evaluation.tasks.requests import Item

log = logging.getLogger("workbench")


def warn_of_letters(benchmark: PreparedBenchmark, answerer: Answerer, item: Item) -> None:
    """Say it where the tokens of the letters that are scored aren't those that the prompt leads to."""
    warning = answerer.letter_warning(item) if isinstance(answerer, MultipleChoice) else None
    if warning and rank_and_world_size()[0] == 0:
        log.warning("benchmarks.%s: %s", benchmark.name, warning)


def warn_of_closed_texts(name: str, lm: TransformersLM) -> None:
    """Say where a number can't be the harness's, since the tokenizer puts a token after every text."""
    added = special_frame(lm.tokenizer)[1]
    if added and rank_and_world_size()[0] == 0:
        log.warning(
            "benchmarks.%s: the tokenizer puts %s after every text; it is left out between prompt and "
            "answer, where lm-evaluation-harness leaves it in",
            name,
            ", ".join(repr(token) for token in lm.tokenizer.convert_ids_to_tokens(added)),
        )


def warn_of_same_tokens(benchmark: PreparedBenchmark, answerer: Answerer) -> None:
    """Say how many items have different choices that the tokenizer makes the same tokens of."""
    found = answerer.same_tokens if isinstance(answerer, MultipleChoice) else {}
    if found and rank_and_world_size()[0] == 0:
        name, (first, second) = next(iter(found.items()))
        log.warning(
            "benchmarks.%s: %d items have two choices that are scored by the same tokens, so they score "
            "alike and the first one wins (item %s: %r and %r)",
            benchmark.name,
            len(found),
            name,
            first,
            second,
        )


def warn_of_shots(benchmark: PreparedBenchmark, items: Sequence[Item], longest: int) -> None:
    """Say how many examples were left out because prompts would not have fitted."""
    dropped = [item.num_shots_dropped for item in items if item.num_shots_dropped]
    if dropped and rank_and_world_size()[0] == 0:
        log.warning(
            "benchmarks.%s: %d examples dropped from the prompts of %d of %d items, which would not fit into "
            "%d tokens",
            benchmark.name,
            sum(dropped),
            len(dropped),
            len(items),
            longest,
        )


def about_letters(benchmark: PreparedBenchmark, asked: Sequence[Asked]) -> dict[str, object]:
    """Further fields of the scores of lettered questions."""
    if not benchmark.config.options:
        return {}
    found: Counter[str] = Counter()
    for question in asked:
        found += letters(question.items[0].example, question.answers)
    orders = max(len(question.items) for question in asked)
    known = sorted({letter for question in asked for letter in question.items[0].example.choices})
    return {"letters": {letter: found[letter] for letter in known}, "permutations": orders}
