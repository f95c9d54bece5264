"""Items whose prompts and targets lm-evaluation-harness 0.4.13 has, asked of its own tasks."""

import datasets
import pytest
from five_rows import MMLU_PRO_SHOWN, ROWS
from test_five_rows import local

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


def asked_by_harness(name: str, rows: list[dict], monkeypatch):
    """The harness's task over the rows, and its requests without few-shot examples."""
    tasks = pytest.importorskip("lm_eval.tasks")
    splits = datasets.DatasetDict(
        {split: datasets.Dataset.from_list(rows) for split in ("train", "validation", "test")}
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: splits)
    task = tasks.TaskManager().load([name])["tasks"][name]
    task.set_config(key="num_fewshot", value=0)
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
    tasks = pytest.importorskip("lm_eval.tasks")
    examples = local("mmlu_pro", tmp_path, protocol="few-shot", num_fewshot=3).examples
    splits = datasets.DatasetDict(
        test=datasets.Dataset.from_list(ROWS["mmlu_pro"][1]),
        validation=datasets.Dataset.from_list(MMLU_PRO_SHOWN),
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: splits)
    task = tasks.TaskManager().load(["mmlu_pro_math"])["tasks"]["mmlu_pro_math"]
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
