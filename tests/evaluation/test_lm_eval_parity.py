"""The same prompts and the same numbers as lm-evaluation-harness 0.4.13 gives.

The recorded numbers are renewed by `python tests/evaluation/test_lm_eval_parity.py`, with lm_eval installed.
"""

import json
from pathlib import Path

import pytest
import torch
from layouts import ALIKE, LAYOUTS
from test_shipped_benchmarks import load, only, write
from tiny_llama import make_llama, make_tokenizer

from workbench.config.benchmark import GenerationConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.decoding import Decoder
from workbench.evaluation.items import item
from workbench.evaluation.perplexity import Perplexity
from workbench.evaluation.transformers_lm import TransformersLM

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
    decoder = Decoder(lm, GenerationConfig(max_new_tokens=10, stop=[" q"]))
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
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    folder, file = TASKS[name]
    path = Path(lm_eval.__file__).parent / "tasks" / folder / f"{file}.yaml"
    subset = write(name, tmp_path)
    row = LAYOUTS[ALIKE.get(name, name)][1]
    (tmp_path / "hub.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    config = load_yaml(path)
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


if __name__ == "__main__":
    torch.set_num_threads(1)
    GOLDEN.write_text(json.dumps(theirs(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
