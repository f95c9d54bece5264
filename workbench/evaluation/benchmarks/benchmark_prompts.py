"""From a row to an item with its prompt: description, examples, question and choices rendered as text."""

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
from workbench.evaluation.benchmarks.fewshot import ExamplePicker
from workbench.evaluation.benchmarks.option_letters import (
    check_can_move,
    names_letters,
    own_letters,
    speaks_of_others,
    texts_of,
)
from workbench.evaluation.benchmarks.option_orders import rotated
from workbench.evaluation.benchmarks.targets import target_of
from workbench.evaluation.benchmarks.template_variables import GivenNames
from workbench.evaluation.records import Example, Shot


class Renderer:
    """Renders the rows of one benchmark.

    Examples before a question depend on the item, the number of its row and the seed alone.
    """

    def __init__(self, config: BenchmarkConfig, seed: int, permutations: int = 1) -> None:
        """Take a benchmark whose protocol is resolved.

        Args:
            config: the benchmark.
            seed: of examples drawn at random.
            permutations: orders of the options of lettered questions.
        """
        self.config = config
        self.seed = seed
        self.permutations = permutations if config.options else 1
        self.asks_choices = config.output_type == OutputType.multiple_choice
        self.question_per_choice = self.asks_choices and "choice" in benchmark_templates.names(
            config.question
        )
        self.alike: dict[str, str] = {}
        """Row -> a choice that stands twice, where a harness's protocol scores it all the same."""
        self.not_moved: dict[str, str] = {}
        """Row -> a text of it that names options, so that these are asked in one order."""
        self._given = GivenNames(config)
        self._can_move = False
        self.num_same_shots = 0
        """Items with an example that asks the same but for case, width, white space and punctuation."""
        self.fewer_shots: list[int] = []
        """Number of examples of each item that has fewer than `num_fewshot`, since no other row is left."""
        self._shots: dict[tuple[str, str], Shot] = {}
        """Subset, whose title may be in it, and row -> the example."""
        self._examples = ExamplePicker(config.fewshot_order, config.num_fewshot or 0, seed)

    def example(self, row: Row, number: int, place: int, subset: str, shot_rows: list[Row]) -> Example:
        """The item of a row, with its options in all orders asked for.

        Args:
            row: the question.
            number: of the row in its split.
            place: of the row among those that `keep` leaves, by which the harness draws examples.
            subset: of the row.
            shot_rows: the rows to take examples from.

        Raises:
            DataError: a column is missing, a choice is empty, or the answer is none of the choices.
        """
        self._given.check_prompts(row)
        first = self._one(row, number, place, subset, shot_rows)
        orders = range(1, min(self.permutations, len(first.choices)))
        if not orders:
            return first
        letters = own_letters(first.choices)
        if other := self._speaks_of_options(row, letters):
            self.not_moved[row.where] = other
            return first
        if not self._can_move:
            check_can_move(row, self.config.options, letters, partial(self._question, subset=subset))
            self._can_move = True
        turned = [rotated(row, self.config.options, shift, letters) for shift in orders]
        rotations = [self._one(other, number, place, subset, shot_rows) for other in turned]
        return replace(first, rotations=tuple(rotations))

    def identity(self, row: Row, number: int, subset: str) -> str:
        """The id of the item of a row, the `number`-th of its split."""
        name = str(number)
        if self.config.id:
            self._given.check_prompts(row)
            name = benchmark_templates.render(self.config.id, self._values(row, subset), row)
        return f"{subset}/{name}" if subset else name

    def _speaks_of_options(self, row: Row, letters: list[str]) -> str | None:
        """A text of a row that names options, and would name other ones once these are moved."""
        options = self.config.options
        read = sorted(benchmark_templates.names(self.config.question) & row.values.keys() - set(options))
        columns = [row.values[name] for name in read]
        named = (text for text in columns if isinstance(text, str) and names_letters(text))
        return speaks_of_others(texts_of(row, options), letters) or next(named, None)

    def _question(self, row: Row, subset: str) -> str:
        """The question of a row, for its first choice where each has one of its own."""
        values = self._values(row, subset)
        choice = self._choices(row, values)[0] if self.question_per_choice else ""
        return benchmark_templates.render(self.config.question, self._with_choice(values, choice), row)

    def _with_choice(self, values: dict[str, Any], choice: str) -> dict[str, Any]:
        return {**values, "choice": choice} if self.asks_choices else values

    def _one(self, row: Row, number: int, place: int, subset: str, shot_rows: list[Row]) -> Example:
        config = self.config
        values = self._values(row, subset)
        identity = self.identity(row, number, subset)
        choices = self._choices(row, values)
        self._check_options(row, choices)
        target = target_of(config, row, values, choices)
        texts = [self._continuation(row, values, choice) for choice in choices]
        ones = choices if self.question_per_choice else [""]
        questions = [
            benchmark_templates.render(config.question, self._with_choice(values, one), row) for one in ones
        ]
        self._check_distinct(row, choices, list(zip(questions * len(texts), texts, strict=False)))
        if config.output_type == OutputType.perplexity and not questions[0]:
            raise DataError(f"{row.where}: an empty text")
        if config.question.strip() and config.protocol != "lm-eval" and not "".join(questions).strip():
            raise DataError(f"{row.where}: an empty question (`keep` can leave such rows out)")
        pmi = (
            benchmark_templates.render(config.unconditional, values, row)
            if "acc_pmi" in config.metrics
            else None
        )
        picked = self._examples.pick(shot_rows, row, place, identity)
        return Example(
            id=identity,
            subset=subset,
            description=benchmark_templates.render(config.description, values, row),
            shots=self._examples_for(questions, row, subset, picked, shot_rows),
            fewshot_delimiter=config.fewshot_delimiter,
            delimiter=config.delimiter,
            questions=tuple(questions),
            continuations=tuple(texts),
            choices=tuple(choices),
            target=target.value,
            references=target.references,
            written_targets=target.written,
            unconditional=pmi,
        )

    def _examples_for(
        self, questions: list[str], row: Row, subset: str, picked: list[Row], shot_rows: list[Row]
    ) -> tuple[Shot, ...]:
        """Examples; one that asks what the item asks gives way to the next, except for protocol=lm-eval."""
        shots = [self._shot(shot, subset) for shot in picked]
        asked = {normal_form(question) for question in questions} - {""} if picked else set()
        others = [shot for shot in shots if normal_form(shot.question) not in asked]
        if len(others) == len(shots):
            return tuple(shots)
        self.num_same_shots += 1
        if self.config.protocol == "lm-eval":
            return tuple(shots)
        used = {shot.where for shot in picked} | {row.where}
        further = (self._shot(other, subset) for other in shot_rows if other.where not in used)
        spare = (shot for shot in further if normal_form(shot.question) not in asked)
        found = (*others, *islice(spare, len(shots) - len(others)))
        if len(found) < len(shots):
            self.fewer_shots.append(len(found))
        return found

    def _check_options(self, row: Row, choices: list[str]) -> None:
        """Refuse a lettered question that lacks the text of one of its options."""
        columns = self.config.options
        found = [row.values.get(column, "?") for column in columns]  # missing: told when rendered
        if len(columns) == 1 and isinstance(found[0], list):
            columns, found = columns * len(found[0]), found[0]
        for column, value in zip(columns, found, strict=True):
            if value is None or not str(value).strip():
                raise DataError(f"{row.where}: column {column!r}, an option of the question, is empty")
        if columns and choices and len(found) != len(choices):
            letters = ", ".join(choices)
            raise DataError(f"{row.where}: {len(found)} options for the {len(choices)} letters {letters}")

    def _check_distinct(self, row: Row, choices: list[str], asked: list[tuple[str, str]]) -> None:
        """Refuse two equal choices; where a harness's protocol scores them, they are only noted.

        Args:
            row: the question.
            choices: of it.
            asked: question and continuation of each choice, the first question for all where there is one.
        """
        texts = [choice.strip() for choice in choices] if self.config.target else choices
        if len(set(texts)) < len(texts):
            same = next(text for text in texts if texts.count(text) > 1)
            if self.config.protocol != "lm-eval":
                raise DataError(
                    f"{row.where}: two of the choices are {same!r}, so the right one can't be told "
                    "(`keep` can leave such rows out)"
                )
            self.alike[row.where] = same
        elif self.asks_choices and len(set(asked)) < len(asked):
            alike = [choice for choice, pair in zip(choices, asked, strict=True) if asked.count(pair) > 1]
            raise DataError(
                f"{row.where}: choices {alike[0]!r} and {alike[1]!r} are asked alike, since neither "
                "`question` nor `continuation` tells them apart ({{ choice }} is the text of one)"
            )

    def _values(self, row: Row, subset: str) -> dict[str, Any]:
        about = {"subset": subset, "title": self.config.subsets.get(subset, "")}
        if not self.config.subsets:  # then a column of this name is meant
            about = {name: text for name, text in about.items() if name not in row.values}
        return {**about, "letters": list(string.ascii_uppercase)}

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
            if odd := next((each for each in choices if isinstance(each, list | tuple | Mapping)), None):
                raise DataError(
                    f"{row.where}: {config.choices_from!r} gives the choice {str(odd):.60} (a list of texts; "
                    f"`{config.choices_from} | map(attribute='NAME') | list` takes a field of each)"
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
            raise DataError(f"{row.where}: nothing is left to score after choice {choice!r} (`continuation`)")
        return text

    def _shot(self, row: Row, subset: str) -> Shot:
        """An example's question and answer, with the delimiter between them; rendered once per row."""
        place = (subset, row.where)
        if place not in self._shots:
            self._given.check_prompts(row)
            about = self._values(row, subset)
            values = dict(about)
            choices = self._choices(row, values)
            values["choice"] = target_of(self.config, row, values, choices).shown(choices)
            answer = benchmark_templates.render(self.config.continuation, values, row)
            question = benchmark_templates.render(
                self.config.question, self._with_choice(about, values["choice"]), row
            )
            self._shots[place] = Shot(question=question, answer=self.config.delimiter + answer)
        return self._shots[place]
