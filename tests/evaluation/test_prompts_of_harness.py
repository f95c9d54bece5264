"""Items whose prompts and targets lm-evaluation-harness 0.4.13 has, asked of its own tasks."""

import json
from functools import cache
from pathlib import Path

import datasets
import pytest
import yaml
from five_rows import MMLU_PRO_SHOWN, ROWS
from test_five_rows import local, prepared
from test_shipped_benchmarks import load

from workbench.errors import DataError
from workbench.evaluation.tasks.requests import item

pytestmark = pytest.mark.peer
TASKS = {
    "agieval_zh": "agieval_gaokao_physics",
    "agieval_en": "agieval_lsat_lr",
    "bbh": "bbh_zeroshot_boolean_expressions",
    "rte": "sglue_rte",
    "cb": "cb",
    "copa": "copa",
    "wsc": "wsc",
    "wic": "wic",
    "mmlu_pro": "mmlu_pro_math",
    "mgsm_en": "mgsm_direct_en",
    "trivia_qa": "triviaqa",
    "wikitext": "wikitext",
}


def lm_eval_tasks():
    return pytest.importorskip("lm_eval.tasks")


@cache
def task_manager():
    """The harness's index of its tasks, which takes seconds to make."""
    return lm_eval_tasks().TaskManager()


def asked_by_harness(name: str, rows: list[dict], monkeypatch, num_fewshot: int = 0):
    """The harness's task over the rows, and its requests with `num_fewshot` examples of its own."""
    splits = datasets.DatasetDict(
        {split: datasets.Dataset.from_list(rows) for split in ("train", "validation", "test")}
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: splits)
    task = task_manager().load([name])["tasks"][name]
    task.set_config(key="num_fewshot", value=num_fewshot)
    task.build_all_requests(limit=None, rank=0, world_size=1)
    return task, task.instances


def pairs_of(instances) -> list[tuple[str, str]]:
    return [(one.args[0], one.args[1] if isinstance(one.args[1], str) else "") for one in instances]


@pytest.mark.parametrize("name", TASKS)
def test_prompts_choices_and_targets_are_the_harnesses(name, tmp_path, monkeypatch):
    examples = local(name, tmp_path, num_fewshot=0).examples
    task, instances = asked_by_harness(TASKS[name], ROWS[name][1], monkeypatch)
    assert_same(examples, task, instances)


def test_few_shot_prompts_of_mmlu_pro_are_the_harnesses(tmp_path, monkeypatch):
    examples = local("mmlu_pro", tmp_path, protocol="few-shot", num_fewshot=3).examples
    splits = datasets.DatasetDict(
        test=datasets.Dataset.from_list(ROWS["mmlu_pro"][1]),
        validation=datasets.Dataset.from_list(MMLU_PRO_SHOWN),
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: splits)
    task = task_manager().load(["mmlu_pro_math"])["tasks"]["mmlu_pro_math"]
    task.set_config(key="num_fewshot", value=3)
    task.build_all_requests(limit=None, rank=0, world_size=1)
    assert [item(example, 0).contexts[0] for example in examples] == [one.args[0] for one in task.instances]


def assert_same(examples, task, instances) -> None:
    """All requests and targets of the harness are those of the examples, item by item."""
    docs = list(task.eval_docs)
    assert len(docs) == len(examples) > 0
    for number, (doc, example) in enumerate(zip(docs, examples, strict=True)):
        if task.OUTPUT_TYPE == "loglikelihood_rolling":
            assert [one.args for one in instances if one.doc_id == number] == [(example.questions[0],)]
            continue
        theirs = pairs_of([one for one in instances if one.doc_id == number])
        asked = item(example, 0)
        is_choice = task.OUTPUT_TYPE == "multiple_choice"
        assert (asked.pairs if is_choice else [(asked.contexts[0], "")]) == theirs
        target = doc["gold"] if "gold" in doc else task.doc_to_target(doc)
        if (
            isinstance(example.target, int | tuple)
            and example.choices
            and task.OUTPUT_TYPE == "multiple_choice"
        ):
            right = example.target if isinstance(example.target, tuple) else (example.target,)
            texts = [" " + example.choices[index] for index in right]
            assert list(right) == target or right == (target,) or texts == [target]
        else:
            assert list(example.written_targets) == (target if isinstance(target, list) else [str(target)])


def published_examples(folder: Path) -> dict[str, list[dict]]:
    """The examples of each task of bbh_cot_fewshot, written below `folder` as the benchmark reads them."""
    shown = {}
    (folder / "cot").mkdir()
    for file in (Path(lm_eval_tasks().__file__).parent / "bbh/cot_fewshot").glob("[!_]*.yaml"):
        values = yaml.safe_load(file.read_text("utf-8"))
        shown[values["dataset_name"]] = values["fewshot_config"]["samples"]
        path = folder / "cot" / f"{values['dataset_name']}.json"
        path.write_text(json.dumps({"examples": values["fewshot_config"]["samples"]}), "utf-8")
    return shown


def test_prompts_of_bbh_with_the_published_steps_are_the_harnesses(tmp_path, monkeypatch):
    shown = published_examples(tmp_path)
    assert shown.keys() == load("bbh").subsets.keys() and all(len(rows) == 3 for rows in shown.values())
    for subset in shown:
        (tmp_path / f"{subset}.json").write_text(json.dumps({"examples": ROWS["bbh"][1]}), "utf-8")
        examples = prepared("bbh", subset, path=str(tmp_path), protocol="cot-fewshot").examples
        task, instances = asked_by_harness(
            f"bbh_cot_fewshot_{subset}", ROWS["bbh"][1], monkeypatch, num_fewshot=3
        )
        assert_same(examples, task, instances)
        stop = prepared("bbh", subset, path=str(tmp_path), protocol="cot-fewshot").config.generation.stop
        assert stop == task.config.generation_kwargs["until"]


def test_published_steps_that_are_missing_are_one_line(tmp_path):
    local("bbh", tmp_path)
    with pytest.raises(DataError, match=r"cot/boolean_expressions\.json: no such file"):
        local("bbh", tmp_path, protocol="cot-fewshot")
