"""Renders a row to an item with its prompt: description, few-shot examples, question and choices."""

import hashlib
import string
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.data.holdout import normal_form
from workbench.errors import DataError
from workbench.evaluation.benchmarks import benchmark_templates
from workbench.evaluation.benchmarks.benchmark_files import Row
from workbench.evaluation.benchmarks.choose_fewshot import ExamplePicker
from workbench.evaluation.benchmarks.option_letters import (
    check_can_move,
    check_options,
    names_letters,
    own_letters,
    speaks_of_others,
    texts_of,
)
from workbench.evaluation.benchmarks.option_orders import rotated
from workbench.evaluation.benchmarks.programs import program_around_answer
from workbench.evaluation.benchmarks.targets import target_of
from workbench.evaluation.benchmarks.template_variables import GivenNames
from workbench.evaluation.records import Example, Shot


class Renderer:
    """Renders each row of one benchmark to an item: question, choices, answer and few-shot examples.

    The few-shot examples of an item depend only on the item, the index of its row and the seed.
    """

    def __init__(self, config: BenchmarkConfig, seed: int, permutations: int = 1) -> None:
        """Create a renderer for a benchmark, with the settings of its protocol filled in.

        Args:
            config: configuration of the benchmark.
            seed: seed of randomly drawn few-shot examples.
            permutations: number of option orders of lettered questions.
        """
        self.config = config
        self.seed = seed
        self.asks_choices = config.output_type == OutputType.multiple_choice
        self.permutations = permutations if config.options and self.asks_choices else 1
        self.question_per_choice = self.asks_choices and "choice" in benchmark_templates.names(
            config.question
        )
        self.alike: dict[str, str] = {}
        """Position of a row -> text that two of its choices share; protocol=lm-eval scores these rows, too.
        """
        self.not_moved: dict[str, str] = {}
        """Position of a row -> its text that refers to options by letter or position, so that the row is
        asked in one order only."""
        self._given_names = GivenNames(config)
        self._can_move = False
        self.num_same_shots = 0
        """Number of items with a few-shot example that asks the same question, by `normal_form`."""
        self.fewer_shots: list[int] = []
        """Number of few-shot examples of each item that has fewer than `num_fewshot`."""
        self._shots: dict[tuple[str, str], Shot] = {}
        """(subset, position of a row) -> few-shot example; the subset counts because templates may show its
        title."""
        self._picker = ExamplePicker(config.fewshot_order, config.num_fewshot or 0, seed)

    def example(self, row: Row, number: int, kept_index: int, subset: str, shot_rows: list[Row]) -> Example:
        """Return the item of a row, with its options in all requested orders.

        What `item_remarks` warns of is recorded in `alike`, `not_moved`, `num_same_shots` and `fewer_shots`.

        Args:
            row: row of the question.
            number: index of the row in its split.
            kept_index: index of the row after `keep`; lm-evaluation-harness draws examples by it.
            subset: subset of the row.
            shot_rows: rows of the few-shot split.

        Raises:
            DataError: A column is missing, a choice is empty, or the answer is not one of the choices.
        """
        self._given_names.check_prompts(row)
        first = self._unrotated(row, number, kept_index, subset, shot_rows)
        orders = range(1, min(self.permutations, len(first.choices)))
        if not orders:
            return first
        letters = own_letters(first.choices)
        if text := self._text_naming_options(row, letters):
            self.not_moved[row.where] = text
            return first
        if not self._can_move:
            check_can_move(row, self.config.options, letters, partial(self._question, subset=subset))
            self._can_move = True
        rotated_rows = [rotated(row, self.config.options, shift, letters) for shift in orders]
        rotations = [
            self._unrotated(rotated_row, number, kept_index, subset, shot_rows)
            for rotated_row in rotated_rows
        ]
        return replace(first, rotations=tuple(rotations))

    def identity(self, row: Row, number: int, subset: str) -> str:
        """Return an item's id: the rendered `id`, else the index of the row in its split.

        With subsets, `SUBSET/` precedes it. A template that can't be rendered raises DataError.
        """
        name = str(number)
        if self.config.id:
            self._given_names.check_prompts(row)
            name = benchmark_templates.render(self.config.id, self._values(row, subset), row)
        return f"{subset}/{name}" if subset else name

    def cluster(self, row: Row, subset: str, parent: str) -> str:
        """Return the id of a row's cluster, 16 hex digits; "" if the row's item is independent.

        Rows of a subset with the same rendered `cluster` form a cluster; without the setting `cluster`, the
        rows that were unfolded from one row. A template that can't be rendered raises DataError.

        Args:
            row: row of the question.
            subset: subset of the row.
            parent: a number for the row that this row was unfolded from; "" if it wasn't unfolded.
        """
        if not self.config.cluster:
            text = parent
        else:
            self._given_names.check_prompts(row)
            text = benchmark_templates.render(self.config.cluster, self._values(row, subset), row)
        return hashlib.sha256(f"{subset}/{text}".encode()).hexdigest()[:16] if text else ""

    def _text_naming_options(self, row: Row, letters: list[str]) -> str | None:
        """Return an option that refers to others by letter or position, or a column that does by letter.

        Such a text, as in `A and B` or `none of the above`, would be wrong if the options were moved.
        """
        options = self.config.options
        columns = sorted(benchmark_templates.names(self.config.question) & row.values.keys() - set(options))
        values = [row.values[name] for name in columns]
        naming = (text for text in values if isinstance(text, str) and names_letters(text))
        return speaks_of_others(texts_of(row, options), letters) or next(naming, None)

    def _question(self, row: Row, subset: str) -> str:
        """Render the question of a row; if the question contains the choice, with the first choice."""
        values = self._values(row, subset)
        choice = self._choices(row, values)[0] if self.question_per_choice else ""
        return benchmark_templates.render(self.config.question, self._with_choice(values, choice), row)

    def _with_choice(self, values: dict[str, Any], choice: str) -> dict[str, Any]:
        return {**values, "choice": choice} if self.asks_choices else values

    def _unrotated(
        self, row: Row, number: int, kept_index: int, subset: str, shot_rows: list[Row]
    ) -> Example:
        config = self.config
        values = self._values(row, subset)
        identity = self.identity(row, number, subset)
        choices = self._choices(row, values)
        check_options(row, self.config.options, choices)
        target = target_of(config, row, values, choices)
        continuations = [self._continuation(row, values, choice) for choice in choices]
        question_choices = choices if self.question_per_choice else [""]
        questions = [
            benchmark_templates.render(config.question, self._with_choice(values, choice), row)
            for choice in question_choices
        ]
        pairs = list(zip(questions * len(continuations), continuations, strict=False))
        self._check_distinct(row, choices, pairs)
        if config.output_type == OutputType.perplexity and not questions[0]:
            raise DataError(f"{row.where}: the text is empty (`keep` can filter such rows out)")
        if config.question.strip() and config.protocol != "lm-eval" and not "".join(questions).strip():
            raise DataError(f"{row.where}: the question is empty (`keep` can filter such rows out)")
        is_for_pmi = "acc_pmi" in config.metrics
        unconditional = benchmark_templates.render(config.unconditional, values, row) if is_for_pmi else None
        picked = self._picker.pick(shot_rows, row, kept_index, identity)
        return Example(
            id=identity,
            subset=subset,
            language=config.language,
            description=benchmark_templates.render(config.description, values, row),
            shots=self._shots_for(questions, row, subset, picked, shot_rows),
            fewshot_delimiter=config.fewshot_delimiter,
            delimiter=config.delimiter,
            questions=tuple(questions),
            continuations=tuple(continuations),
            choices=tuple(choices),
            target=target.value,
            references=target.references,
            written_targets=target.written,
            program=program_around_answer(config.program, values, row),
            unconditional=unconditional,
        )

    def _shots_for(
        self, questions: list[str], row: Row, subset: str, picked: list[Row], shot_rows: list[Row]
    ) -> tuple[Shot, ...]:
        """Render the picked rows to the few-shot examples of an item.

        An example that asks the item's own question is replaced by another row of the few-shot split, except
        with protocol=lm-eval; if no row is left, the item gets fewer examples.
        """
        shots = [self._shot(shot, subset) for shot in picked]
        asked = {normal_form(question) for question in questions} - {""} if picked else set()
        usable = [shot for shot in shots if normal_form(shot.question) not in asked]
        if len(usable) == len(shots):
            return tuple(shots)
        self.num_same_shots += 1
        if self.config.protocol == "lm-eval":
            return tuple(shots)
        used = {shot.where for shot in picked} | {row.where}
        unused = (self._shot(shot_row, subset) for shot_row in shot_rows if shot_row.where not in used)
        spare = (shot for shot in unused if normal_form(shot.question) not in asked)
        distinct = (*usable, *islice(spare, len(shots) - len(usable)))
        if len(distinct) < len(shots):
            self.fewer_shots.append(len(distinct))
        return distinct

    def _check_distinct(self, row: Row, choices: list[str], pairs: list[tuple[str, str]]) -> None:
        """Check that no two choices have the same text or the same prompt.

        With protocol=lm-eval, the same text is only recorded in `alike`. `pairs` has the question and the
        continuation of each choice.
        """
        texts = [choice.strip() for choice in choices] if self.config.target else choices
        if len(set(texts)) < len(texts):
            duplicate = next(text for text in texts if texts.count(text) > 1)
            if self.config.protocol != "lm-eval":
                raise DataError(
                    f"{row.where}: two of the choices are {duplicate!r}, so neither can be the right one "
                    "(`keep` can filter such rows out)"
                )
            self.alike[row.where] = duplicate
        elif self.asks_choices and len(set(pairs)) < len(pairs):
            alike = [choice for choice, pair in zip(choices, pairs, strict=True) if pairs.count(pair) > 1]
            raise DataError(
                f"{row.where}: choices {alike[0]!r} and {alike[1]!r} have the same prompt, because neither "
                "`question` nor `continuation` contains the choice ({{ choice }} is its text)"
            )

    def _values(self, row: Row, subset: str) -> dict[str, Any]:
        subset_values = {"subset": subset, "title": self.config.subsets.get(subset, "")}
        if not self.config.subsets:  # then a column of this name is meant
            subset_values = {name: text for name, text in subset_values.items() if name not in row.values}
        return {**subset_values, "letters": list(string.ascii_uppercase)}

    def _choices(self, row: Row, values: dict[str, Any]) -> list[str]:
        config = self.config
        if config.choices_from:
            choices = benchmark_templates.evaluate(config.choices_from, values, row)
            if not isinstance(choices, list) or len(choices) < 2:
                raise DataError(f"{row.where}: {config.choices_from!r} gives {choices!r} (a list of choices)")
            if None in choices:
                number = choices.index(None) + 1
                raise DataError(
                    f"{row.where}: choice {number} of {len(choices)} in {config.choices_from!r} is null"
                )
            if nested := next(
                (choice for choice in choices if isinstance(choice, list | tuple | Mapping)), None
            ):
                raise DataError(
                    f"{row.where}: {config.choices_from!r} gives the choice {str(nested):.60} "
                    "(a list of texts; "
                    f"`{config.choices_from} | map(attribute='NAME') | list` takes one field of each object)"
                )
            choices = [str(choice) for choice in choices]
        else:
            choices = [benchmark_templates.render(choice, values, row) for choice in config.choices]
        for number, choice in enumerate(choices):
            if not choice.strip():
                raise DataError(f"{row.where}: choice {number + 1} of {len(choices)} is empty")
        return choices

    def _continuation(self, row: Row, values: dict[str, Any], choice: str) -> str:
        text = benchmark_templates.render(self.config.continuation, {**values, "choice": choice}, row)
        if not text and self.config.output_type == OutputType.multiple_choice:
            raise DataError(
                f"{row.where}: `continuation` is empty for choice {choice!r}, so nothing can be scored"
            )
        return text

    def _shot(self, row: Row, subset: str) -> Shot:
        """Render a row to a few-shot example, whose answer starts with the delimiter.

        Examples are cached, so each row is rendered once.
        """
        key = (subset, row.where)
        if key not in self._shots:
            self._given_names.check_prompts(row)
            base_values = self._values(row, subset)
            values = dict(base_values)
            choices = self._choices(row, values)
            values["choice"] = target_of(self.config, row, values, choices).shown(choices)
            answer = benchmark_templates.render(self.config.continuation, values, row)
            question = benchmark_templates.render(
                self.config.question, self._with_choice(base_values, values["choice"]), row
            )
            self._shots[key] = Shot(question=question, answer=self.config.delimiter + answer)
        return self._shots[key]
