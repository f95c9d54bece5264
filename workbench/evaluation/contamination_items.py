"""Converts benchmark items to search for in training rows, and the search result for contamination.json."""

from workbench.data.contamination import compare
from workbench.data.contamination.items import Item
from workbench.data.contamination.search import Contamination
from workbench.evaluation.contamination_report import BenchmarkContamination, FoundItem
from workbench.evaluation.records import Example

THRESHOLDS = {
    "words": compare.FEWEST_WORDS,
    "distinct_words": compare.DISTINCT_WORDS,
    "question_words": compare.QUESTION_WORDS,
    "question_distinct_words": compare.QUESTION_DISTINCT_WORDS,
    "near_words": compare.NEAR_WORDS,
    "near_share": compare.NEAR,
}
"""Limits of the comparison, as `workbench.data.contamination.compare` explains them."""


def item_of(example: Example) -> Item:
    """Convert an example to an item to search for in training rows: its id, questions and options.

    Few-shot examples are left out, and options if all of them are single letters.
    """
    is_lettered = all(len(text.strip(" .)(")) == 1 for text in example.continuations)
    return Item(example.id, example.questions, () if is_lettered else example.continuations)


def benchmark_contamination(result: Contamination, inputs: str) -> BenchmarkContamination:
    """Convert the result of searching one benchmark to the benchmark's entry in contamination.json.

    `inputs` is the fingerprint of the rows, the items and the rules of comparison.
    """
    found_items = [
        FoundItem(
            id=pair.id,
            row=pair.where,
            kind=pair.overlap.kind,
            share=round(pair.overlap.share, 4),
            longest=pair.overlap.longest,
        )
        for pair in result.pairs
    ]
    return BenchmarkContamination(
        inputs=inputs, num_items=result.num_items, num_short=result.num_short, found=found_items
    )
