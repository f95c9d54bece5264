"""Reads the items of a task of lm-evaluation-harness as examples."""

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from workbench.errors import DataError, first_line
from workbench.evaluation.harness.item_scores import item_id
from workbench.evaluation.records import Example


def read_examples(
    task: Any, subset: str, rows: list[int] | None, limit: int | None, seed: int
) -> list[Example]:
    """Return the items of a task, with their prompts as plain text, without a chat format.

    An item's `description` has all its prompts with their few-shot examples, joined by newlines;
    `continuations` has the answers to score. The task's few-shot seed and requests are set on the way.

    Args:
        task: The harness's task.
        subset: Name of the task in a group, or empty.
        rows: Indices of the rows to ask; None: the first rows.
        limit: Number of first rows, without `rows`; None: all.
        seed: Seed of the few-shot examples.

    Raises:
        DataError: The task can't render its prompts.
    """
    task.set_fewshot_seed(seed=seed)
    with task_errors(f"lm-eval task {task.task_name!r}: its prompts can't be rendered"):
        task.build_all_requests(limit=None if rows else limit, samples=rows)
    examples: list[Example] = []
    for instances in _by_document(task.instances):
        first = instances[0]
        row = rows[first.doc_id] if rows else first.doc_id
        scored = [instance for instance in instances if instance.request_type != "generate_until"]
        answers = tuple(str(instance.args[-1]) for instance in scored)
        shown = dict.fromkeys(str(argument) for instance in instances for argument in instance.args)
        examples.append(
            Example(
                id=item_id(subset, row),
                subset=subset,
                description="\n".join(text for text in shown if text not in answers),
                questions=_questions(task, first),
                continuations=answers,
                target=str(task.doc_to_target(first.doc)),
            )
        )
    return examples


def _questions(task: Any, request: Any) -> tuple[str, ...]:
    """Return a document's question.

    In tasks such as Winogrande, whose choices are parts of the question, return a question for each choice.
    """
    question = task.doc_to_text(request.doc)
    if isinstance(question, str):
        return (question,)
    if getattr(task, "multiple_input", 0):
        return tuple(map(str, task.doc_to_choice(request.doc)))
    return (request.args[0],)


def _by_document(instances: Sequence[Any]) -> list[list[Any]]:
    """Group the harness's requests by document: one list of requests per document, in their order."""
    by_document: dict[int, list[Any]] = {}
    for instance in instances:
        by_document.setdefault(instance.doc_id, []).append(instance)
    return list(by_document.values())


@contextmanager
def task_errors(where: str) -> Iterator[None]:
    """Convert errors of a task's own code, templates and data, which the user can correct, to DataError.

    Raises:
        DataError: The task fails; the message begins with `where`.
    """
    import datasets
    import jinja2
    import yaml

    failures = (
        *(OSError, ValueError, RuntimeError, TypeError, LookupError, AttributeError, AssertionError),
        *(ArithmeticError, ImportError, MemoryError, SyntaxError, pickle.PickleError),
    )
    others = (datasets.exceptions.DatasetsError, jinja2.TemplateError, yaml.YAMLError)
    try:
        yield
    except (*failures, *others) as error:
        raise DataError(f"{where}: {first_line(error):.500}") from error
