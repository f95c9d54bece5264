"""Task files that lm-evaluation-harness ships, over rows of ours: each item has the values of the harness."""

import datasets
import pytest
from five_rows import ROWS
from test_harness import lm_eval
from test_prompts_of_harness import TASKS as TASK_OF
from test_prompts_of_harness import task_manager
from tiny_llama import make_llama, make_tokenizer

from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.engine import evaluate
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.records import read_predictions
from workbench.run_dir import RunDir

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
NATS = 1e-4
TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
LAMBADA = [{"text": f"The dog sat on the {word} and the cat said {word}"} for word in ("mat", "table", "one")]
ROWS_OF = {task: ROWS[name][1] for name, task in TASK_OF.items()} | {"lambada_openai": LAMBADA}
ASKED = {
    "plain": ({}, {}, {}),
    "system": ({"system": "Be short.\n"}, {"system_instruction": "Be short.\n"}, {}),
    "chat": (
        {"chat_template": True, "system": "Be short."},
        {"apply_chat_template": True, "fewshot_as_multiturn": True, "system_instruction": "Be short."},
        {},
    ),
    "few-shot": ({"fewshot_as_turns": True}, {"num_fewshot": 2}, {"num_fewshot": 2}),
}
WRITTEN = ("bbh_zeroshot_boolean_expressions", "mmlu_pro_math", "mgsm_direct_en", "triviaqa")
FEW_SHOT = ("copa", "lambada_openai", "bbh_zeroshot_boolean_expressions", "mgsm_direct_en")


def tokenizer():
    made = make_tokenizer()
    made.chat_template = TURNS
    return made


def theirs(task: str, **options) -> dict:
    """Score a task with the harness's own model class."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=make_llama(), tokenizer=tokenizer(), batch_size=4, device="cpu")
    options = {"num_fewshot": 0, "gen_kwargs": "max_gen_toks=9", **options}
    return simple_evaluate(lm, tasks=[task], task_manager=task_manager(), bootstrap_iters=0, **options)


@pytest.mark.parametrize("way", ASKED)
@pytest.mark.parametrize("task", ROWS_OF)
def test_every_item_of_a_shipped_task_has_the_harnesses_values(task, way, tmp_path, monkeypatch):
    if way == "few-shot" and task not in FEW_SHOT:
        pytest.skip("asked without examples")
    pytest.importorskip("lm_eval")
    rows = datasets.Dataset.from_list(ROWS_OF[task])
    splits = datasets.DatasetDict({split: rows for split in ("train", "validation", "test")})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: splits)
    settings, options, changes = ASKED[way]
    config, run_dir = EvaluateConfig(**settings), RunDir(tmp_path)
    limit = {"gen_kwargs": {"max_gen_toks": 9}} if task in WRITTEN else {}
    benchmark = lm_eval(task, **{"num_fewshot": 0, **limit, **changes})
    prepared = prepare_benchmarks({"lm_eval": benchmark}, config)
    found = evaluate(
        make_llama(), tokenizer(), prepared, config, model_name="base", predictions=run_dir.predictions
    )
    expected = theirs(task, **options)
    for score in found.scores:
        name, _, chosen = score.metric.partition(",")
        assert score.value == pytest.approx(expected["results"][task][f"{name},{chosen or 'none'}"], rel=1e-4)
    samples = expected["samples"][task]
    samples = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
    predictions = read_predictions(run_dir.predictions("base", next(iter(prepared))))
    assert len(predictions) == len(samples) == len(rows)
    for ours, sample in zip(predictions, samples, strict=True):
        assert ours.context == sample["arguments"][0][0]
        values = [given[0] if isinstance(given, tuple) else given for (given,) in sample["resps"]]
        if isinstance(values[0], str):
            assert ours.generation == values[0]
        else:
            assert list(ours.loglikelihoods) == pytest.approx(list(map(float, values)), abs=NATS)
