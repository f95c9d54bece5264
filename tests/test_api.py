"""The Python face on the toy model: one notebook's story, and what it refuses."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from scipy.stats import binomtest

import workbench
from workbench.api.benchmarks import Benchmark
from workbench.config.benchmark import BenchmarkConfig
from workbench.config.quantization import QuantizationConfig
from workbench.errors import ConfigError, DataError
from workbench.evaluation.records import Prediction, Score, read_results
from workbench.files import file_fingerprint
from workbench.leaderboard.board import UNSURE
from workbench.leaderboard.results import Results
from workbench.shipped import PACKAGE, shipped
from workbench.statistics.paired import compare_paired

TOY = PACKAGE / "toy"
BENCHMARKS = ["toy_choice_zh", "toy_choice_en"]
SETTINGS = {
    "limit": 300,
    "max_length": 64,
    "validation_fraction": 0.1,
    "max_steps": 12,
    "learning_rate": 3e-3,
    "lr_scheduler": "linear",
    "per_device_batch_size": 8,
    "logging_steps": 2,
    "report_to": [],
}
OF_DATA = ("limit", "max_length", "validation_fraction")


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Load, score, fine-tune, score again, compare and merge, as a notebook would."""
    folder = tmp_path_factory.mktemp("story")
    model, tokenizer = workbench.load_model(TOY / "base")
    benchmarks = [workbench.load_benchmark(name, limit=60) for name in BENCHMARKS]
    base = workbench.evaluate(model, tokenizer, benchmarks, name="base")
    tuned = workbench.finetune(
        TOY / "base",
        TOY / "data" / "instruct.jsonl",
        output=folder,
        **SETTINGS,
    )
    model, tokenizer = workbench.load_model(TOY / "base", adapter=tuned.folder)
    adapter = workbench.evaluate(model, tokenizer, benchmarks, name="adapter")
    merged = workbench.merge(TOY / "base", tuned.folder, folder / "merged")
    return SimpleNamespace(
        folder=folder,
        model=model,
        tokenizer=tokenizer,
        benchmarks=benchmarks,
        base=base,
        tuned=tuned,
        adapter=adapter,
        merged=merged,
        comparison=workbench.compare(base, adapter),
    )


def test_importing_the_package_imports_neither_torch_nor_hydra():
    code = "import sys, workbench; print({'torch', 'hydra', 'yaml', 'datasets'} & set(sys.modules))"
    assert printed(code) == "set()"


def test_a_benchmark_is_loaded_without_torch_and_hydra():
    code = (
        "import sys, workbench; workbench.load_benchmark('cmmlu', limit=2); "
        "print({'torch', 'hydra', 'omegaconf', 'datasets', 'pandas'} & set(sys.modules))"
    )
    assert printed(code) == "set()"


def printed(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_every_name_of_the_package_is_there():
    assert [name for name in workbench.__all__ if not hasattr(workbench, name)] == []


def test_every_shipped_benchmark_is_the_one_of_the_command_line():
    OmegaConf.register_new_resolver("toy", lambda path: str(TOY / path), replace=True)
    for file in sorted((shipped("conf") / "benchmark").glob("*.yaml")):
        composed = OmegaConf.load(file)
        if "defaults" not in composed:
            merged = OmegaConf.merge(OmegaConf.structured(BenchmarkConfig), composed)
            assert workbench.load_benchmark(file.stem).config == OmegaConf.to_object(merged), file.stem


def test_weights_and_scores_are_those_of_the_command_line(story, tmp_path):
    words = [f"model.path={TOY / 'base'}", f"data.path={TOY / 'data' / 'instruct.jsonl'}"]
    words += [f"benchmark=[{','.join(BENCHMARKS)}]", *(f"benchmarks.{name}.limit=60" for name in BENCHMARKS)]
    words += [f"{'data' if name in OF_DATA else 'train'}.{name}={value}" for name, value in SETTINGS.items()]
    words += ["steps=[train,evaluate]", "train.warmup_steps=0", "train.sample_answers=0"]
    command = [sys.executable, "-m", "workbench", "recipe=sft", *words, f"run_dir={tmp_path / 'run'}"]
    subprocess.run(command, capture_output=True, check=True, cwd=tmp_path)
    _, scores = read_results(tmp_path / "run" / "results.json")
    ours = [*story.base.scores, *story.adapter.scores]
    assert sorted(map(str, scores)) == sorted(map(str, ours))
    weights = "adapter_model.safetensors"
    assert (tmp_path / "run" / "adapter" / weights).read_bytes() == (
        story.tuned.folder / weights
    ).read_bytes()


def test_a_model_of_any_class_is_scored_and_left_as_it_was(story):
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=768, n_positions=128, n_embd=32, n_layer=1, n_head=2))
    results = workbench.evaluate(model, story.tokenizer, "toy_choice_zh", batch_tokens=2048)
    assert results["toy_choice_zh"].num_items == 300
    assert model.training


def test_the_adapter_switched_off_is_the_base(story):
    with story.model.disable_adapter():
        off = workbench.evaluate(story.model, story.tokenizer, story.benchmarks, name="base")
    assert off.scores == story.base.scores
    assert off.predictions == story.base.predictions != story.adapter.predictions


def test_fine_tuning_lowers_the_loss_and_a_repeated_call_finds_it_done(story):
    report = story.tuned.report
    assert report.steps == 12
    assert report.loss_last < report.loss_first
    assert report.validation_loss < report.validation_loss_before
    assert list(story.tuned.to_pandas()["step"])[-1] == 12
    assert (story.tuned.folder / "adapter_config.json").is_file()


def test_a_loss_that_was_logged_once_is_shown_once(story):
    report = replace(story.tuned.report, loss_first=2.25, loss_last=2.25)
    assert str(replace(story.tuned, report=report)).count("2.25") == 1


def test_rows_in_memory_train_what_the_same_rows_of_a_file_do(tmp_path):
    rows = [{"frage": f"{number} + 1 =", "antwort": f" {number + 1}"} for number in range(40)]
    settings = {"max_steps": 2, "columns": {"prompt": "frage", "completion": "antwort"}, "report_to": []}
    file = tmp_path / "rows.csv"
    file.write_text("frage,antwort\n" + "".join(f"{row['frage']},{row['antwort']}\n" for row in rows))
    of = {
        name: workbench.finetune(TOY / "base", data, output=tmp_path / name, **settings)
        for name, data in {"memory": rows, "file": file}.items()
    }
    weights = [(found.folder / "adapter_model.safetensors").read_bytes() for found in of.values()]
    assert weights[0] == weights[1]


def test_a_merged_model_is_proven_and_not_written_over(story):
    assert story.merged.report.merged.largest <= story.merged.report.merged.bound
    with pytest.raises(ConfigError, match="is not empty"):
        workbench.merge(TOY / "base", story.tuned.folder, story.folder / "merged")


def test_two_merges_beside_each_other_have_reports_of_their_own(story, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two.model"]
    merged = [workbench.merge(TOY / "base", story.tuned.folder, folder) for folder in folders]
    for found in merged:
        report = json.loads(found.report_file.read_text())
        assert report["fingerprints"]["merged"] == file_fingerprint(found.folder)
    assert {found.report_file.name for found in merged} == {
        "one.merge_report.json",
        "two.model.merge_report.json",
    }


def test_the_adapter_names_its_base_as_the_call_did(story):
    config = json.loads((story.tuned.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "workbench/toy/base"


def test_what_is_found_shows_itself_and_becomes_a_data_frame(story):
    for shown in (story.base, story.comparison, story.tuned, story.merged):
        assert shown._repr_html_().startswith("<table>")
        assert len(repr(shown).splitlines()) > 3
    assert [*story.base.to_pandas().columns] == [
        *("model", "benchmark", "language", "metric", "value", "stderr", "low", "high"),
        *("num_items", "num_fewshot", "protocol"),
    ]
    assert [*story.comparison.to_pandas().columns] == [
        *("benchmark", "metric", "first", "second", "difference", "low", "high"),
        *("p_value", "p_adjusted", "test", "gained", "lost", "num_pairs", "num_clusters", "verdict"),
        "problem",
    ]


def test_a_comparison_has_the_interval_and_the_exact_test_of_the_pairs(story):
    for row in story.comparison.rows:
        pairs = [
            (before.scores["acc"], after.scores["acc"])
            for before, after in zip(
                story.base.predictions[row.benchmark], story.adapter.predictions[row.benchmark], strict=True
            )
        ]
        wins, losses = sum(b > a for a, b in pairs), sum(b < a for a, b in pairs)
        exact = binomtest(wins, wins + losses, 0.5).pvalue if wins + losses else 1.0
        level = 0.03 / row.difference.family
        expected = compare_paired([a for a, _ in pairs], [b for _, b in pairs], alpha=level)
        assert row.difference.p_value == pytest.approx(exact, rel=1e-12)
        assert (row.difference.low, row.difference.high) == (expected.low, expected.high)
        assert row.difference.value == pytest.approx((wins - losses) / len(pairs))


def results(model: str, answers: dict[str, list[int]]) -> Results:
    """Right and wrong answers to the items of each benchmark."""
    predictions = {
        name: [
            Prediction(
                id=str(number),
                prompt_hash=str(number),
                context="",
                prediction=right,
                target=1,
                scores={"acc": float(right)},
            )
            for number, right in enumerate(rights)
        ]
        for name, rights in answers.items()
    }
    scores = [
        Score(
            model=model,
            benchmark=name,
            language="zh",
            metric="acc",
            value=sum(rights) / len(rights),
            stderr=0.1,
            interval=[0.0, 1.0],
            num_items=len(rights),
            num_fewshot=0,
            protocol="default",
            prompts="",
        )
        for name, rights in answers.items()
    ]
    return Results(model=model, scores=scores, predictions=predictions, measured={})


def test_p_values_are_corrected_as_statsmodels_does():
    # statsmodels 0.15.0: multipletests([*p, p_of_the_mean], method="bonferroni")[1], with
    # p = [mcnemar([[0, won], [lost, 0]], exact=True).pvalue for won, lost in flips.values()]
    flips = {"a": (9, 1), "b": (4, 6), "c": (3, 0)}
    first = results("one", {name: [0] * won + [1] * lost + [1] for name, (won, lost) in flips.items()})
    second = results("two", {name: [1] * won + [0] * lost + [1] for name, (won, lost) in flips.items()})
    frame = workbench.compare(first, second).to_pandas()
    assert frame["p_value"].tolist() == pytest.approx([0.021484375, 0.75390625, 0.25])
    assert frame["p_adjusted"].tolist() == pytest.approx([0.0859375, 1.0, 1.0])
    assert set(frame["verdict"]) == {UNSURE}


def test_an_item_that_is_there_twice_is_named_and_not_compared():
    first, second = results("one", {"a": [1, 0, 1] * 9}), results("two", {"a": [0, 1, 1] * 9})
    first.predictions["a"][1] = first.predictions["a"][0]
    [row] = workbench.compare(first, second).rows
    assert row.difference.verdict == "not tested" and "is there twice (lines 1 and 2)" in row.problem


def test_what_only_one_was_scored_on_is_named_and_nothing_in_common_is_refused():
    first, second = results("one", {"a": [1, 0], "b": [1]}), results("two", {"a": [1, 1], "c": [1]})
    comparison = workbench.compare(first, second)
    assert [row.benchmark for row in comparison.rows] == ["a"]
    assert comparison.left_out == ["b", "c"]
    with pytest.raises(ConfigError, match=r"^compare: no benchmark in common \(a, b and c\)$"):
        workbench.compare(first, results("two", {"c": [1]}))


def test_texts_of_others_are_no_markup():
    shown = results("<b>model</b>", {"<script>alert(1)</script>": [1, 0]})
    comparison = workbench.compare(shown, shown)
    for html in (shown._repr_html_(), comparison._repr_html_()):
        assert "<script>" not in html
        assert "<b>" not in html
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: workbench.load_benchmark("cmlu"), r"benchmark: no benchmark 'cmlu' \(did you mean cmmlu"),
        (lambda: workbench.load_benchmark("zh"), r"zh.yaml: names several benchmarks \(cmmlu, ceval"),
        (lambda: workbench.load_benchmark("no.yaml"), "benchmark: no such file 'no.yaml'"),
        (
            lambda: workbench.load_benchmark("cmmlu", num_shots=5),
            r"benchmarks.cmmlu: no setting 'num_shots' \(did you mean num_fewshot",
        ),
        (
            lambda: workbench.load_benchmark("cmmlu", sample="random"),
            r"benchmarks.cmmlu.sample: 'random' \(known: hash, first\)",
        ),
        (lambda: workbench.load_benchmark("cmmlu", limit="5"), r"cmmlu.limit: '5' is not a whole number"),
        (lambda: workbench.load_benchmark("cmmlu", metrics="acc"), r"cmmlu.metrics: 'acc' is not a list"),
        (
            lambda: workbench.load_model("x", quantization="nf5"),
            r"quantization.method: 'nf5' \(known: none, int8, nf4, fp4\)",
        ),
        (
            lambda: workbench.load_model("x", quantization=QuantizationConfig(compute_dtype="fp16")),
            r"quantization.compute_dtype: 'fp16' \(known: auto, float32",
        ),
        (lambda: workbench.load_model("x", dtype="fp32"), r"model.dtype: 'fp32' \(known: auto, float32"),
        (
            lambda: workbench.finetune("x", [], output="y", lerning_rate=1e-3),
            r"finetune: no setting 'lerning_rate' \(did you mean learning_rate",
        ),
        (lambda: workbench.finetune("x", [], output="y", keep="bst"), r"train.keep: 'bst' \(known: last"),
        (lambda: workbench.finetune("x", [], output="y", rank=0), r"adapter.rank: 0 \(from 1 to 65,536\)"),
        (lambda: workbench.finetune("x", [], output="y", streaming=True), "finetune: no setting 'streaming'"),
        (
            lambda: workbench.finetune("x", [], output="y", method="none", quantization="nf4"),
            "adapter.method: 'none' trains the model's own weights, which can't be in nf4",
        ),
        (lambda: workbench.merge("x", "y", "z", dtype="fp16"), r"merge.dtype: 'fp16' \(known: auto, float32"),
        (lambda: workbench.merge("x", "y", "z", adapters=["v"]), "merge: no setting 'adapters'"),
        (lambda: workbench.merge("x", "y", "z", search=[0.5]), "merge: no setting 'search'"),
    ],
)
def test_a_wrong_name_or_value_is_refused_in_a_line_with_the_known_ones(call, message):
    with pytest.raises(ConfigError, match=message) as refused:
        call()
    assert "\n" not in str(refused.value)


def test_benchmarks_for_another_head_and_settings_of_a_run_are_refused(story):
    with pytest.raises(ConfigError, match="'classification' questions are not for OpenLlamaForCausalLM"):
        workbench.evaluate(story.model, story.tokenizer, "toy_reviews_zh")
    with pytest.raises(ConfigError, match="^evaluate: no setting 'cache'"):
        workbench.evaluate(story.model, story.tokenizer, "toy_choice_zh", cache=False)
    with pytest.raises(ConfigError, match="^benchmarks: 'toy_choice_zh' comes twice"):
        workbench.evaluate(story.model, story.tokenizer, ["toy_choice_zh", "toy_choice_zh"])


def test_fine_tuning_writes_over_no_weights_of_others(tmp_path):
    (tmp_path / "adapter").mkdir()
    with pytest.raises(ConfigError, match="is not from finetune"):
        workbench.finetune(TOY / "base", [], output=tmp_path)


def test_rows_that_are_no_mappings_are_refused_by_number(tmp_path):
    with pytest.raises(DataError, match="^data: row 2 is 'b' "):
        workbench.finetune(TOY / "base", [{"prompt": "a", "completion": "b"}, "b"], output=tmp_path)


def test_a_benchmark_of_ones_own_keeps_the_name_of_its_file(tmp_path):
    file = tmp_path / "quiz.yaml"
    file.write_text("language: en\noutput_type: generation\ngeneration: {stop: [x]}\ntarget: '{{ a }}'\n")
    quiz = workbench.load_benchmark(file, generation={"max_new_tokens": 3}, path=Path("rows.jsonl"))
    assert isinstance(quiz, Benchmark)
    assert (quiz.name, quiz.config.path) == ("quiz", "rows.jsonl")
    assert (quiz.config.generation.stop, quiz.config.generation.max_new_tokens) == (["x"], 3)
