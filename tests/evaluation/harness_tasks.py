"""A folder of task files for lm-evaluation-harness, one of each kind, over rows made up here."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from workbench.evaluation.records import read_predictions
from workbench.run_dir import RunDir

WORDS = ["cat", "dog", "mat", "table", "answer", "question", "right", "one", "two", "three", "four", "five"]

CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/{name}.jsonl, train: {folder}/train.jsonl}}}}
test_split: test
fewshot_split: train
num_fewshot: 2
output_type: multiple_choice
doc_to_text: "{{{{text}}}}\\nAnswer:"
doc_to_choice: "{{{{[a, b, c]}}}}"
doc_to_target: label
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1.0}}
"""
EXAM = """
group: own_exam
task: [own_law, own_art]
aggregate_metric_list:
  - {metric: acc, aggregation: mean, weight_by_size: false}
metadata: {version: 1.0}
"""
LAST = """
task: own_last
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/own_law.jsonl}}}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{text}}}}"
doc_to_target: " {{{{a}}}}"
metric_list:
  - {{metric: perplexity, aggregation: perplexity, higher_is_better: false}}
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""
TEXT = """
task: own_text
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/own_law.jsonl}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}} {{{{a}}}} {{{{b}}}}"
metric_list:
  - {{metric: word_perplexity}}
  - {{metric: bits_per_byte}}
"""
MUTUAL = """
task: own_mutual
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/own_law.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}\\nAnswer:"
doc_to_choice: "{{{{[a, b, c]}}}}"
doc_to_target: label
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_mutual_info, aggregation: mean, higher_is_better: true}}
  - {{metric: brier_score, higher_is_better: false}}
  - {{metric: mcc}}
"""
TRANSLATE = """
task: own_translate
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/own_law.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{text}}}}\\nAnswer:"
doc_to_target: "{{{{text}}}}"
generation_kwargs: {{until: [" q"], max_gen_toks: 12, do_sample: false}}
metric_list:
  - {{metric: bleu}}
  - {{metric: chrf}}
"""
FILL = """
task: own_fill
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/own_law.jsonl, train: {folder}/train.jsonl}}}}
test_split: test
fewshot_split: train
num_fewshot: 2
output_type: multiple_choice
doc_to_text: label
doc_to_choice: "{{{{[text + ' ' + a, text + ' ' + b, text + ' ' + c]}}}}"
doc_to_target: "on the {{{{a}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""
MIXED = """
group: own_mixed
task: [own_law, own_art]
aggregate_metric_list:
  - {metric: acc, aggregation: mean, weight_by_size: false}
  - {metric: acc_norm, aggregation: mean, weight_by_size: true}
metadata: {version: 1.0}
"""
HAN = """
task: own_han
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/han.jsonl}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - {{metric: word_perplexity}}
  - {{metric: byte_perplexity}}
  - {{metric: bits_per_byte}}
"""
WRITE = """
task: own_write
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/own_law.jsonl, train: {folder}/train.jsonl}}}}
test_split: test
fewshot_split: train
num_fewshot: 1
output_type: generate_until
doc_to_text: "{{{{text}}}}\\nAnswer:"
doc_to_target: "{{{{a}}}}"
generation_kwargs: {{until: ["\\n", " q"], max_gen_toks: 8, do_sample: false}}
filter_list:
  - name: whole
    filter: [{{function: take_first}}]
  - name: word
    filter: [{{function: regex, regex_pattern: "(\\\\w+)"}}, {{function: take_first}}]
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""


def write_tasks(folder: Path) -> Path:
    """The folder, with tasks own_law and own_art (group own_exam), own_last, own_text and own_write."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(4)

    def rows(count: int, extra: str = "") -> str:
        lines = []
        for _ in range(count):
            a, b, c = rng.sample(WORDS, 3)
            text = " ".join(rng.choices(WORDS, k=8)) + extra
            lines.append(json.dumps({"text": text, "a": a, "b": b, "c": c, "label": rng.randrange(3)}))
        return "\n".join(lines) + "\n"

    for name, count in (("own_law", 9), ("own_art", 5), ("train", 4)):
        (folder / f"{name}.jsonl").write_text(rows(count))
    for name in ("own_law", "own_art"):
        (folder / f"{name}.yaml").write_text(CHOICE.format(name=name, folder=folder))
    (folder / "exam.yaml").write_text(EXAM)
    (folder / "mixed.yaml").write_text(MIXED)
    han = {"text": "以下是关于农学的单项选择题请直接给出正确答案的选项" * 12}
    (folder / "han.jsonl").write_text(json.dumps(han, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, text in (("mutual", MUTUAL), ("fill", FILL), ("translate", TRANSLATE), ("han", HAN)):
        (folder / f"{name}.yaml").write_text(text.format(folder=folder))
    for name, text in (("last", LAST), ("text", TEXT), ("write", WRITE)):
        (folder / f"{name}.yaml").write_text(text.format(folder=folder))
    return folder


def assert_same_answers(tasks: Sequence[str], run_dir: RunDir, theirs: dict) -> None:
    """Compare the base's contexts, log-likelihoods and texts with the harness's samples of each task."""
    for task in tasks:
        predictions = read_predictions(run_dir.predictions("base", f"lm_eval.{task}"))
        samples = [sample for sample in theirs[task] if sample["filter"] in ("none", "whole")]
        assert len(predictions) == len(samples) == 9
        for ours, sample in zip(predictions, samples, strict=True):
            assert ours.context == sample["arguments"][0][0]
            for value, (given,) in zip(ours.loglikelihoods, sample["resps"], strict=False):
                assert value == pytest.approx(
                    given[0] if isinstance(given, tuple) else float(given), abs=1e-3
                )
            assert ours.generation in (None, sample["resps"][0][0])
