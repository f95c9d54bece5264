"""The same prompts and the same numbers as lm-evaluation-harness 0.4.13 gives.

The recorded numbers are renewed by `python tests/evaluation/test_lm_eval_parity.py`, with lm_eval installed.
"""

import json
from pathlib import Path

import datasets
import pytest
import torch
from answer_cases import LETTERS, NUMBERS
from layouts import ALIKE, LAYOUTS
from test_shipped_benchmarks import load, only, write
from tiny_llama import make_llama, make_tokenizer

from workbench.config.benchmark import Average, BenchmarkConfig, GenerationConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.benchmarks.protocols import resolve
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.metrics.table import METRICS
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.records import Answer, Example
from workbench.evaluation.tasks.perplexity import Perplexity
from workbench.evaluation.tasks.requests import item

GOLDEN = Path(__file__).with_name("lm_eval_0.4.13.json")
PAIRS = [
    ("the cat sat on the", " mat"),
    ("the cat sat on the ", "mat"),
    ("which of these is right?\nA. one\nB. two\nAnswer:", " A"),
    ("which of these is right?\nA. one\nB. two\nAnswer:", " B"),
    ("以下是关于农学的单项选择题。\n答案：", " C"),
    ("以下是关于农学的单项选择题。\n答案：", "C"),
    ("", " a whole sentence without a context"),
    ("", "没有上文"),
    ("trailing newline\n", "answer"),
    ("\n", "only white space before"),
    ("the cat sat", " another"),
    ("选择题", " D"),
]
PROMPTS = ["the cat sat on", "question and answer: ", "以下是"]
LONG = " ".join(["the dog lay under the table and another question"] * 40)
TASKS = {
    "cmmlu": ("cmmlu", "cmmlu_agronomy"),
    "ceval": ("ceval", "ceval-valid_law"),
    "mmlu": ("mmlu/default", "mmlu_anatomy"),
    "hellaswag": ("hellaswag", "hellaswag"),
    "arc_easy": ("arc", "arc_easy"),
    "arc_challenge": ("arc", "arc_challenge"),
    "piqa": ("piqa", "piqa"),
    "winogrande": ("winogrande", "default"),
    "openbookqa": ("openbookqa", "openbookqa"),
    "boolq": ("super_glue/boolq", "default"),
    "commonsenseqa": ("commonsense_qa", "default"),
    "truthfulqa_mc1": ("truthfulqa", "truthfulqa_mc1"),
    "truthfulqa_mc2": ("truthfulqa", "truthfulqa_mc2"),
    "lambada": ("lambada", "lambada_openai"),
    "gsm8k": ("gsm8k", "gsm8k"),
    "sst2": ("glue/sst2", "default"),
    "xnli_zh": ("xnli", "xnli_zh"),
    "xstorycloze_zh": ("xstorycloze", "default_zh"),
    "xcopa_zh": ("xcopa", "default_zh"),
    "mgsm_zh": ("mgsm/direct", "mgsm_direct_zh"),
}


def ours(shared: bool = True) -> dict[str, list]:
    settings = EvaluateConfig(shared_prefix=shared, max_length=64)
    lm = TransformersLM(make_llama(), make_tokenizer(), settings)
    assert lm.shares_prefixes == shared
    found = lm.loglikelihoods(lm.encode_pairs(PAIRS))
    decoder = Decoder(lm, GenerationConfig(max_new_tokens=10, stop=[" q"]), as_harness=True)
    texts = dict(decoder.stream(lm.encode(PROMPTS), ["", "", ""]))
    windows = Perplexity(lm).windows(lm.tokenizer(LONG, add_special_tokens=False)["input_ids"])
    return {
        "loglikelihoods": [f.loglikelihood for f in found],
        "greedy": [f.greedy for f in found],
        "generations": [texts[k] for k in range(3)],
        "rolling": [sum(f.loglikelihood for f in lm.loglikelihoods(windows))],
    }


def theirs() -> dict[str, list]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    def ask(kind: str, arguments: list[tuple], **more) -> list:
        lm = HFLM(
            pretrained=make_llama(),
            tokenizer=make_tokenizer(),
            batch_size=4,
            device="cpu",
            max_length=64,
            **more,
        )
        made = [Instance(kind, {}, a, i, metadata=(None, None, None)) for i, a in enumerate(arguments)]
        return getattr(lm, kind)(made)

    found = ask("loglikelihood", PAIRS)
    limits = {"until": [" q"], "max_gen_toks": 10, "do_sample": False}
    return {
        "loglikelihoods": [float(f[0]) for f in found],
        "greedy": [bool(f[1]) for f in found],
        "generations": ask("generate_until", [(p, limits) for p in PROMPTS]),
        # Otherwise the harness puts a second beginning token before the text, and scores the first, as
        # protocol=lm-eval does here too (test_tokens.py).
        "rolling": [float(f) for f in ask("loglikelihood_rolling", [(LONG,)], add_bos_token=False)],
    }


def assert_alike(found: dict[str, list], expected: dict[str, list]) -> None:
    assert found["loglikelihoods"] == pytest.approx(expected["loglikelihoods"], abs=1e-4)
    assert found["rolling"] == pytest.approx(expected["rolling"], abs=5e-3)
    assert found["greedy"] == expected["greedy"]
    assert found["generations"] == expected["generations"]


@pytest.mark.parametrize("shared", [True, False])
def test_numbers_equal_those_recorded_from_the_harness(shared):
    assert_alike(ours(shared), json.loads(GOLDEN.read_text(encoding="utf-8")))


@pytest.mark.peer
def test_numbers_equal_the_harness():
    pytest.importorskip("lm_eval")
    assert_alike(ours(), theirs())


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TASKS)
def test_prompts_equal_the_harness(name, tmp_path):
    config = harness_task(name)
    from lm_eval.api.task import ConfigurableTask

    subset = write(name, tmp_path)
    row = LAYOUTS[ALIKE.get(name, name)][1]
    (tmp_path / "hub.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    splits = {key: "train" for key in ("test_split", "validation_split") if config.get(key)}
    dropped = ("group", "tag", "dataset_name", "fewshot_split", "training_split", "task_alias")
    config = {key: value for key, value in config.items() if key not in dropped} | splits
    config |= {"task": name, "dataset_path": "json", "num_fewshot": 0}
    config["dataset_kwargs"] = {"data_files": str(tmp_path / "hub.jsonl")}
    task = ConfigurableTask(config=config)
    task.build_all_requests(limit=1, rank=0, world_size=1)
    expected = [instance.args for instance in task.instances]
    example = only(name, load(name, path=str(tmp_path), protocol="lm-eval"), subset)
    asked = item(example, 0)
    if example.continuations:
        assert asked.pairs == [tuple(pair) for pair in expected]
    else:
        assert asked.contexts[0] == expected[0][0]
        assert load(name).generation.stop == expected[0][1]["until"]


VARIED = {
    "arc_easy": "question",
    "arc_challenge": "question",
    "boolq": "passage",
    "ceval": "question",
    "cmmlu": "Question",
    "commonsenseqa": "question",
    "gsm8k": "question",
    "hellaswag": "activity_label",
    "mmlu": "question",
    "openbookqa": "question_stem",
    "piqa": "goal",
    "sst2": "sentence",
    "winogrande": "sentence",
    "xcopa_zh": "premise",
    "xstorycloze_zh": "input_sentence_1",
}
"""Benchmarks with examples: the column of which rows are made."""


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", VARIED)
def test_examples_of_protocol_lm_eval_are_those_that_the_harness_draws(name, tmp_path, monkeypatch):
    config = harness_task(name)
    from lm_eval.api.task import ConfigurableTask

    subset, row, _ = LAYOUTS[ALIKE.get(name, name)]
    rows = [row | {VARIED[name]: f"Nr{number} {row[VARIED[name]]}"} for number in range(12)]
    splits = {"shots": rows[3:], "asked": rows[:6]}
    for split, lines in splits.items():
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (tmp_path / f"{split}.jsonl").write_text(text, encoding="utf-8")
    asked = config.get("test_split") or config["validation_split"]
    keys = ("training_split", "validation_split", "test_split", "fewshot_split")
    names = {config[key] for key in keys if config.get(key)}
    files = {split: str(tmp_path / ("asked" if split == asked else "shots")) + ".jsonl" for split in names}
    config = {k: v for k, v in config.items() if k not in ("group", "tag", "dataset_name", "task_alias")}
    config |= {
        "task": name,
        "dataset_path": "json",
        "num_fewshot": 3,
        "dataset_kwargs": {"data_files": files},
    }
    task = ConfigurableTask(config=config)
    task.set_fewshot_seed(1234)
    task.build_all_requests(rank=0, world_size=1)
    expected: dict[int, str] = {}
    for instance in task.instances:
        expected.setdefault(instance.doc_id, instance.args[0])

    from_split = resolve(name, load(name, protocol="lm-eval")).fewshot_split
    assert from_split == (
        config.get("fewshot_split") or config.get("training_split") or config["validation_split"]
    )

    def load_dataset(path: str, config: str | None, split: str) -> datasets.Dataset:
        return datasets.Dataset.from_list(splits["asked" if split == asked else "shots"])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    benchmark = load(name, protocol="lm-eval", num_fewshot=3)
    benchmark.only = [subset] if subset else []
    examples = prepare_benchmarks({name: benchmark}, EvaluateConfig())[name].examples
    assert [item(example, 0).contexts[0] for example in examples] == list(expected.values())


HARNESS_METRICS = {"greedy_match": "acc", "target_perplexity": "perplexity", "true_mass": "acc"}
"""Metrics that have another name in the harness."""
GENERATED = ("gsm8k", "mgsm_zh")
MATCHES = {
    "strict-match": "strict_match",
    "gsm8k flexible-extract": "flexible_match",
    "mgsm_zh flexible-extract": "flexible_unpunctuated_match",
    "remove_whitespace": "unpunctuated_match",
}
"""The harness's filter, with the task where two compare otherwise: its metric here."""


def harness_task(name: str) -> dict:
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.tasks._yaml_loader import load_yaml

    folder, file = TASKS[name]
    return load_yaml(Path(lm_eval.__file__).parent / "tasks" / folder / f"{file}.yaml")


def as_lm_eval(name: str) -> BenchmarkConfig:
    return resolve(name, load(name, protocol="lm-eval"))


@pytest.mark.peer
@pytest.mark.parametrize("name", TASKS)
def test_metrics_shots_and_average_of_protocol_lm_eval_are_the_task_s(name):
    task, benchmark = harness_task(name), as_lm_eval(name)
    assert benchmark.num_fewshot == task.get("num_fewshot", 0)
    assert benchmark.average == Average.micro  # the groups of all these tasks weight by size
    if name not in GENERATED:
        ours = {HARNESS_METRICS.get(metric, metric) for metric in benchmark.metrics}
        assert ours == {metric["metric"] for metric in task["metric_list"]}
    else:
        kinds = [settings["name"] for settings in task["filter_list"]]
        assert {MATCHES.get(f"{name} {kind}") or MATCHES[kind] for kind in kinds} == set(benchmark.metrics)


@pytest.mark.peer
@pytest.mark.parametrize("name", GENERATED)
def test_generated_answers_score_as_by_the_task_s_own_filters_and_metric(name):
    task, benchmark = harness_task(name), as_lm_eval(name)
    from lm_eval.api.instance import Instance
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters import build_filter_ensemble

    assert benchmark.generation.stop == task["generation_kwargs"]["until"]
    told = ("metric", "aggregation", "higher_is_better")
    options = {key: value for key, value in task["metric_list"][0].items() if key not in told}
    texts = [text for table in (NUMBERS, LETTERS) for cases in table.values() for text, _ in cases]
    texts += ["18", " 18\n", "$18.", "1 8", "-18", "1.8", "１８", "18 ", "It is 1,234.50", "minus -5"]
    matches = 0
    for settings in task["filter_list"]:
        steps = [(step.pop("function"), step) for step in settings["filter"]]
        metric = METRICS[MATCHES.get(f"{name} {settings['name']}") or MATCHES[settings["name"]]]
        for text in texts:
            request = Instance("generate_until", {}, (), 0, metadata=(None, None, None), resps=[text])
            build_filter_ensemble(settings["name"], steps).apply([request])
            filtered = request.filtered_resps[settings["name"]]
            for target in ("18", "1234", "1,234", "5", "-5", "3.5", "0.75"):
                expected = exact_match_hf_evaluate([filtered], [target], **options)["exact_match"]
                example = Example(id="0", questions=("",), target=target, written_targets=(target,))
                answer = Answer(generation=text)
                assert metric.score(metric.judge(answer, example), answer, example) == expected, (
                    text,
                    target,
                )
                matches += expected
    assert matches > 20


if __name__ == "__main__":
    torch.set_num_threads(1)
    GOLDEN.write_text(json.dumps(theirs(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
