"""Tasks of lm-evaluation-harness on this engine: the harness's own numbers, kept like every other score."""

import json
import re
import shutil
from importlib import util
from types import SimpleNamespace

import pytest
from harness_tasks import assert_same_answers, write_tasks
from test_engine import run
from tiny_llama import make_llama, make_tokenizer

from workbench.config.benchmark import BenchmarkConfig, OutputType, Sample
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError, DataError
from workbench.evaluation.benchmarks.sample import sampled
from workbench.evaluation.contamination_items import item_of
from workbench.evaluation.engine import evaluate
from workbench.evaluation.harness.limits import limits
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.records import read_predictions
from workbench.patterns import matching as patterns
from workbench.run_dir import RunDir

TASKS = ("own_exam", "own_law", "own_last", "own_text", "own_write")
peer = pytest.mark.peer
quiet = pytest.mark.filterwarnings("ignore")


def lm_eval(*tasks: str, **changes) -> BenchmarkConfig:
    settings = {"language": "", "output_type": OutputType["lm-eval"], "tasks": list(tasks), "metrics": []}
    return BenchmarkConfig(**settings | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("lm_eval")
    return write_tasks(tmp_path_factory.mktemp("harness") / "tasks")


def test_a_missing_harness_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        prepare_benchmarks({"lm_eval": lm_eval("hellaswag")}, EvaluateConfig())
    assert str(caught.value) == (
        "benchmarks.lm_eval: lm-evaluation-harness is not installed "
        "(pip install 'open-llama-workbench[lm-eval]')"
    )


def test_limits_of_a_task_are_this_engines_limits():
    greedy = limits({"until": ["\n", ""], "do_sample": False, "temperature": 0.7, "top_p": 0.9}, "x")
    assert (greedy.stop, greedy.temperature, greedy.max_new_tokens) == (["\n"], 0.0, 256)
    drawn = limits({"until": "Q:", "temperature": 0.7, "max_gen_toks": 9}, "x")
    assert (drawn.stop, drawn.temperature, drawn.max_new_tokens) == (["Q:"], 0.7, 9)
    with pytest.raises(ConfigError, match="generation option num_beams=4 is not supported"):
        limits({"num_beams": 4}, "x")


def theirs(folder, tokenizer, *tasks: str, **more) -> dict:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    lm = HFLM(pretrained=make_llama(), tokenizer=tokenizer, batch_size=4, device="cpu", **more)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    return simple_evaluate(lm, tasks=list(tasks), task_manager=manager, bootstrap_iters=1000)


@peer
@quiet
@pytest.mark.parametrize("settings", [{}, {"invariant": True}, {"shared_prefix": False}])
def test_every_kind_of_task_scores_each_item_as_the_harness_does(folder, tmp_path, settings):
    tokenizer, run_dir, config = make_tokenizer(), RunDir(tmp_path), EvaluateConfig(**settings)
    prepared = prepare_benchmarks({"lm_eval": lm_eval(*TASKS, include_path=str(folder))}, config)
    assert list(prepared) == [f"lm_eval.{task}" for task in TASKS]
    found = evaluate(
        make_llama(), tokenizer, prepared, config, model_name="base", predictions=run_dir.predictions
    )
    expected = theirs(folder, tokenizer, "own_exam", "own_last", "own_write", "own_text")
    for score in found.scores:
        name, _, filter_name = score.metric.partition(",")
        task = score.benchmark.removeprefix("lm_eval.")
        value = expected["results"][task][f"{name},{filter_name or 'none'}"]
        assert score.value == pytest.approx(value, rel=1e-4), score
        stderr = expected["results"][task].get(f"{name}_stderr,{filter_name or 'none'}")
        if name.startswith("acc") and task != "own_exam":
            assert score.stderr == pytest.approx(stderr, rel=1e-6)
    assert_same_answers(TASKS[1:], run_dir, expected["samples"])


@peer
@quiet
def test_a_group_that_averages_is_one_benchmark_with_its_tasks_as_subsets(folder, llama, tokenizer):
    [score] = run(llama, tokenizer, lm_eval("own_exam", include_path=str(folder))).scores
    assert score.average == "macro" and list(score.subsets) == ["own_law", "own_art"]
    assert score.value == pytest.approx(sum(part["value"] for part in score.subsets.values()) / 2)
    assert (score.num_items, score.num_fewshot, score.chance, score.language) == (14, 2, 1 / 3, "en")


@peer
@quiet
def test_a_limit_takes_the_same_rows_of_a_task_whatever_the_seed(folder):
    def ids(**settings) -> list[str]:
        config = lm_eval("own_law", include_path=str(folder), limit=4)
        [prepared] = prepare_benchmarks({"lm_eval": config}, EvaluateConfig(**settings)).values()
        return [example.id for example in prepared.examples]

    expected = sampled("lm_eval.own_law", "", [str(n) for n in range(9)], 4, Sample.hash)
    assert ids() == ids(fewshot_seed=5) == [str(number) for number in expected]
    assert expected != [0, 1, 2, 3]


@peer
@quiet
def test_answers_to_rows_of_a_task_are_those_to_their_prompts(folder, llama, tokenizer, tmp_path):
    run_dir = RunDir(tmp_path)
    run(
        llama,
        tokenizer,
        lm_eval("own_exam", "own_write", include_path=str(folder), limit=3, num_fewshot=0),
        predictions=run_dir.predictions,
    )
    for task in ("own_exam", "own_write"):
        name = f"exam.{task}"
        prepared = prepare_benchmarks(
            {"exam": lm_eval(task, include_path=str(folder), limit=3, num_fewshot=0)}, EvaluateConfig()
        )[name]
        predictions = read_predictions(run_dir.predictions("base", name))
        assert [p.id for p in predictions] == [example.id for example in prepared.examples]
        for p, example in zip(predictions, prepared.examples, strict=True):
            assert p.context.endswith(example.questions[0])


@peer
@quiet
def test_items_to_search_in_training_rows_have_the_question_and_options_and_no_few_shot_examples(folder):
    benchmark = lm_eval(
        "own_law", "own_write", "own_text", include_path=str(folder), limit=3, sample=Sample.first
    )
    law, write, text = (
        prepared.examples[0]
        for prepared in prepare_benchmarks({"exam": benchmark}, EvaluateConfig()).values()
    )
    row = json.loads((folder / "own_law.jsonl").read_text().splitlines()[0])
    assert item_of(law).questions == (f"{row['text']}\nAnswer:",)
    assert item_of(law).options == tuple(f" {row[name]}" for name in "abc")
    assert law.description.count("Answer:") == 3
    assert item_of(write).options == ()
    assert item_of(text).options == (f"{row['text']} {row['a']} {row['b']}",)


@peer
@quiet
def test_items_that_one_answer_completes_are_searched_for_without_few_shot_examples(folder):
    benchmark = lm_eval("own_fill", include_path=str(folder), limit=3, sample=Sample.first)
    [prepared] = prepare_benchmarks({"exam": benchmark}, EvaluateConfig()).values()
    row = json.loads((folder / "own_law.jsonl").read_text().splitlines()[0])
    assert item_of(prepared.examples[0]).questions == tuple(f"{row['text']} {row[name]}" for name in "abc")
    assert item_of(prepared.examples[0]).options == (f" on the {row['a']}",) * 3


@peer
@quiet
def test_answers_to_tasks_are_kept_and_sample_first_takes_the_first(folder, llama, tokenizer, tmp_path):
    def asked(fingerprint: str, **changes) -> list[int]:
        benchmark = lm_eval("own_exam", "own_write", include_path=str(folder), **changes)
        more = {"fingerprint": fingerprint, "cache": tmp_path / "answers"}
        benchmark.sample = Sample.first
        found = run(llama, tokenizer, benchmark, **more)
        return [int(one["num_asked"]) for one in found.measured.values()]

    assert asked("one", limit=3) == [6, 3]
    assert asked("one") == [8, 6]
    assert asked("one") == [0, 0]
    assert asked("two", num_fewshot=1) == [14, 9]


@peer
@quiet
def test_a_prompt_that_is_too_long_loses_its_beginning_as_in_the_harness(folder, llama, tokenizer):
    benchmark = lm_eval("own_law", include_path=str(folder))
    found = run(llama, tokenizer, benchmark, {"max_length": 24})
    assert found.measured["exam.own_law"]["num_cut"] == 27
    expected = theirs(folder, tokenizer, "own_law", max_length=24)["results"]["own_law"]
    assert [score.value for score in found.scores] == [expected["acc,none"], expected["acc_norm,none"]]


@peer
@quiet
def test_a_changed_judgement_is_another_rule(folder, tmp_path):
    def rule() -> str:
        config = lm_eval("own_law", include_path=str(tmp_path / "tasks"))
        return prepare_benchmarks({"lm_eval": config}, EvaluateConfig())["lm_eval.own_law"].interviewer.rule

    from workbench.evaluation.harness import tasks

    shutil.copytree(folder, tmp_path / "tasks")
    before = rule()
    assert rule() == before
    file = tmp_path / "tasks" / "own_law.yaml"
    file.write_text(file.read_text().replace("metric: acc_norm", "metric: acc_bytes"))
    tasks._manager.cache_clear()
    assert rule() != before


@peer
@quiet
@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"tasks": ["hela_swag_x"]}, ConfigError, "unknown task 'hela_swag_x'"),
        ({"tasks": []}, ConfigError, "benchmarks.lm_eval.tasks: empty"),
        ({"metrics": ["f2"]}, ConfigError, r"metrics: unknown metric 'f2' \(known: acc, acc_norm\)"),
        ({"include_path": "nowhere"}, ConfigError, "include_path: no such folder 'nowhere'"),
        ({"tasks": ["broken"]}, DataError, "'broken': can't be loaded: "),
        ({"tasks": ["many"]}, ConfigError, r"'many': repeats=100000000 \(at most 1,000 answers to each item"),
    ],
)
def test_a_task_that_can_not_be_asked_is_told_before_any_model(folder, tmp_path, changes, error, words):
    from workbench.evaluation.harness import tasks

    shutil.copytree(folder, tmp_path / "tasks")
    text = (folder / "own_law.yaml").read_text().replace("own_law.jsonl", "gone.jsonl")
    (tmp_path / "tasks" / "broken.yaml").write_text(text.replace("task: own_law", "task: broken"))
    many = (folder / "own_law.yaml").read_text().replace("task: own_law", "task: many")
    (tmp_path / "tasks" / "many.yaml").write_text(f"{many}\nrepeats: 100000000\n")
    settings = {"tasks": ["own_law"], "include_path": str(tmp_path / "tasks")} | changes
    if settings["tasks"] == ["hela_swag_x"]:
        tasks._manager.cache_clear()
    with pytest.raises(error, match=words) as caught:
        prepare_benchmarks({"lm_eval": lm_eval(*settings.pop("tasks"), **settings)}, EvaluateConfig())
    assert "\n" not in str(caught.value)


@peer
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "mine.yaml: not a task"),
        ("- a\n- b\n", "mine.yaml: not a task"),
        ("task: mine\ninclude: mine.yaml\n", "mine.yaml: includes 'mine.yaml', which includes it"),
        ("task: mine\ninclude: other.yaml\n", "other.yaml: includes 'mine.yaml', which includes it"),
    ],
)
def test_a_task_file_without_a_task_or_one_that_includes_itself_is_named(tmp_path, text, words):
    (tmp_path / "mine.yaml").write_text(text)
    (tmp_path / "other.yaml").write_text("include: mine.yaml\n")
    with pytest.raises(DataError, match=words):
        prepare_benchmarks({"lm_eval": lm_eval(str(tmp_path / "mine.yaml"))}, EvaluateConfig())


def filtered(*filters: tuple[str, dict], answer: str, doc: dict | None = None, held: bool = True) -> object:
    """What a task's filters make of an answer, under our time limit or as the harness has them."""
    from lm_eval.api.instance import Instance
    from lm_eval.filters import build_filter_ensemble

    from workbench.evaluation.harness.filters import bound_filters

    task = SimpleNamespace(_filters=[build_filter_ensemble("own", [list(each) for each in filters])])
    if held:
        bound_filters(task, "own_write")
    request = Instance("generate_until", doc or {}, ("", {}), 0)
    request.resps = [answer]
    task._filters[0].apply([request])
    return request.filtered_resps["own"]


def unbounded(monkeypatch):
    """The harness's modules with `re` itself."""
    from lm_eval.api import metrics
    from lm_eval.filters import extraction

    for module in (metrics, extraction):
        monkeypatch.setattr(module, "re", re)


CHOICES = {"choices": ["The brown dog.", "A dog", "Dog of war, the", "Ein Hund"]}
"""Of a question; one is the beginning of another but for its article."""
ANSWERS = ["A) the brown dog", "It is: C", "dog of war", "(B)", "EIN HUND!", "the answer is (D).", "", "none"]


@peer
@quiet
def test_a_multiple_choice_filter_finds_what_it_finds_in_the_harness(monkeypatch):
    options = {
        "ignore_case": True,
        "ignore_punctuation": True,
        "regexes_to_ignore": [r"(?i)\b(the|a)\b", r"\s+"],
    }
    choose = ("multi_choice_regex", {"regex_pattern": r"\(([A-D])\)", **options})
    unbounded(monkeypatch)
    expected = [filtered(choose, answer=answer, doc=CHOICES, held=False) for answer in ANSWERS]
    assert [filtered(choose, answer=answer, doc=CHOICES) for answer in ANSWERS] == expected
    assert ["(A)"] in expected and ["[invalid]"] in expected


@peer
@quiet
def test_what_a_filter_or_a_metric_ignores_is_taken_out_in_time(monkeypatch):
    from lm_eval.api.metrics import exact_match_hf_evaluate

    unbounded(monkeypatch)
    monkeypatch.setattr(patterns, "MAX_SECONDS", 0.2)
    slow = {"regexes_to_ignore": ["(b|bb)+$"]}
    with pytest.raises(ValueError, match="takes more than 0.2 seconds"):
        filtered(("multi_choice_regex", slow), answer="b" * 60 + "c", doc=CHOICES)
    with pytest.raises(ValueError, match="takes"):
        exact_match_hf_evaluate(["b" * 60 + "c"], ["b"], **slow)
    articles = {"regexes_to_ignore": ["the ", ","], "ignore_case": True}
    assert (
        exact_match_hf_evaluate(["the 1,000 Dogs", "x"], ["1000 dogs", "y"], **articles)["exact_match"] == 0.5
    )


@peer
@quiet
def test_a_filter_s_pattern_finds_what_it_finds_in_the_harness_and_ends_in_time(monkeypatch):
    monkeypatch.setattr(patterns, "MAX_SECONDS", 0.2)
    numbers = ("regex", {"regex_pattern": "(?i)it is (\\d+)", "group_select": -1})
    assert filtered(numbers, ("take_first", None), answer="It is 1, it is 20") == "20"
    with pytest.raises(ValueError, match="takes more than 0.2 seconds"):
        filtered(("regex", {"regex_pattern": "(a|aa)+$"}), answer="a" * 60 + "b")
    with pytest.raises(DataError, match=r"own_write: a filter in filter_list can't be built: missing \)"):
        filtered(("regex", {"regex_pattern": "("}), answer="")
    with pytest.raises(DataError, match=r"can't be built: '\(x\{9999\}\)\{9999\}' has 99,990,000 characters"):
        filtered(("regex", {"regex_pattern": "(x{9999}){9999}"}), answer="")
