"""Sampling of generated answers: penalties as in transformers, the evaluate section first."""

import json

import pytest
import torch
from harness_tasks import write_tasks
from test_engine import run
from test_harness import lm_eval
from test_text_counts import quiz
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

from workbench.config.benchmark import GenerationConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError
from workbench.evaluation.harness.limits import limits
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.inference.sampling import penalized
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.records import read_predictions
from workbench.run_dir import RunDir

PROMPTS = ["the cat sat on the mat and the dog", "the cat sat on the mat and one", "以下是关于农学的"]


def texts_of(folder, llama, tokenizer, settings=None, **limits) -> list[str]:
    """Score the quiz of test_text_counts.py, and return the generated texts."""
    run_dir = RunDir(folder / json.dumps([settings, limits]).replace("/", ""))
    generation = GenerationConfig(**{"max_new_tokens": 8, "stop": []} | limits)
    run(llama, tokenizer, quiz(folder, generation=generation), settings, predictions=run_dir.predictions)
    [file] = run_dir.path.rglob("*.jsonl")
    return [prediction.generation for prediction in read_predictions(file)]


def test_a_penalty_changes_the_logits_of_seen_tokens_as_transformers_does():
    torch.manual_seed(0)
    logits = torch.randn(2, 30) * 3
    seen = [[1, 1, 5, 29], [0, 7, 7, 7]]
    for penalty in (1.3, 0.7):
        expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor(seen), logits.clone())
        assert torch.equal(penalized(logits, seen, penalty), expected)
        assert not torch.equal(expected, logits)
    assert penalized(logits, seen, 1.0) is logits


@pytest.mark.parametrize("shared", [True, False])
def test_penalized_answers_are_those_of_transformers_generate(llama, tokenizer, shared):
    lm = TransformersLM(llama, tokenizer, EvaluateConfig(shared_prefix=shared))
    prompts = lm.encode(PROMPTS)
    decoder = Decoder(lm, GenerationConfig(max_new_tokens=12, stop=[], repetition_penalty=1.6))
    found = dict(decoder.tokens(prompts, [""] * len(prompts)))
    plain = dict(decoder.limited(GenerationConfig(max_new_tokens=12, stop=[])).tokens(prompts, [""] * 3))
    for index, prompt in enumerate(prompts):
        ids = torch.tensor([prompt])
        made = llama.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            logits_processor=LogitsProcessorList([RepetitionPenaltyLogitsProcessor(1.6)]),
        )
        assert found[index] == made[0, len(prompt) :].tolist()
    assert found != plain


def test_the_evaluate_sections_sampling_precedes_the_benchmarks(llama, tokenizer, tmp_path):
    own = texts_of(tmp_path, llama, tokenizer, temperature=0.8, top_k=7, repetition_penalty=1.4)
    given = {"temperature": 0.8, "top_k": 7, "repetition_penalty": 1.4}
    assert texts_of(tmp_path, llama, tokenizer, given) == own
    assert texts_of(tmp_path, llama, tokenizer, given, temperature=0.1, top_p=1.0) == own
    greedy = texts_of(tmp_path, llama, tokenizer)
    assert own != greedy == texts_of(tmp_path, llama, tokenizer, {"temperature": 0}, temperature=0.8)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"top_p": 0.9}, r"evaluate\.top_p: 0\.9 has no effect at temperature 0"),
        ({"top_k": 5, "temperature": 0}, r"evaluate\.top_k: 5 has no effect at temperature 0"),
    ],
)
def test_settings_of_drawn_tokens_are_refused_where_none_is_drawn(tmp_path, settings, words):
    with pytest.raises(ConfigError, match=words):
        prepare_benchmarks({"quiz": quiz(tmp_path)}, EvaluateConfig(**settings))
    prepare_benchmarks({"quiz": quiz(tmp_path)}, EvaluateConfig(top_p=1.0, top_k=0))


def test_sampling_is_refused_where_no_benchmark_generates_texts(tmp_path):
    choices = quiz(tmp_path, output_type=type(quiz(tmp_path).output_type).multiple_choice, metrics=["acc"])
    with pytest.raises(ConfigError, match=r"evaluate\.temperature: 0\.7 has no effect, because no benchmark"):
        prepare_benchmarks({"quiz": choices}, EvaluateConfig(temperature=0.7))
    both = {"quiz": choices, "text": quiz(tmp_path)}
    assert (
        prepare_benchmarks(both, EvaluateConfig(temperature=0.7))["text"].config.generation.temperature == 0.7
    )
    prepare_benchmarks({}, EvaluateConfig(temperature=0.7))


def test_generation_options_of_a_task_are_converted_or_refused():
    drawn = limits({"temperature": 0.7, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1}, "x")
    assert (drawn.top_p, drawn.top_k, drawn.repetition_penalty) == (0.9, 20, 1.1)
    greedy = limits({"do_sample": False, "top_p": 0.9, "top_k": -1, "repetition_penalty": 1.1}, "x")
    assert (greedy.top_p, greedy.top_k, greedy.repetition_penalty) == (1.0, 0, 1.1)
    with pytest.raises(ConfigError, match=r"x: generation option num_beams=4 is not supported"):
        limits({"num_beams": 4}, "x")
    with pytest.raises(ConfigError, match=r"x: generation option\.top_p: 1\.5 "):
        limits({"temperature": 1.0, "top_p": 1.5}, "x")


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({"gen_kwargs": {"max_gen_toks": 5, "until": [], "repetition_penalty": 1.7}}, {}),
        ({"gen_kwargs": {"max_gen_toks": 5, "until": []}}, {"repetition_penalty": 1.7}),
    ],
)
def test_generation_options_of_the_user_precede_a_tasks_as_in_the_harness(
    tmp_path, llama, tokenizer, changes, settings
):
    lm_evaluation = pytest.importorskip("lm_eval")
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    folder = write_tasks(tmp_path / "tasks")
    run_dir = RunDir(tmp_path / "run")
    task = lm_eval("own_write", include_path=str(folder), metadata={"told": [1, 2]}, **changes)
    run(llama, tokenizer, task, settings, predictions=run_dir.predictions)
    expected = lm_evaluation.simple_evaluate(
        HFLM(pretrained=llama, tokenizer=tokenizer, batch_size=3, device="cpu"),
        tasks=["own_write"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        gen_kwargs={"max_gen_toks": 5, "until": [], "repetition_penalty": 1.7},
    )
    [file] = run_dir.path.rglob("*.jsonl")
    found = {int(each.id): each.generation for each in read_predictions(file)}
    whole = [each for each in expected["samples"]["own_write"] if each["filter"] == "whole"]
    assert found == {sample["doc_id"]: sample["resps"][0][0] for sample in whole}
    greedy = run(llama, tokenizer, lm_eval("own_write", include_path=str(folder))).scores
    other = run(llama, tokenizer, task, settings).scores
    assert greedy[0].rule != other[0].rule


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_metadata_reach_the_tasks_and_options_without_effect_are_refused(tmp_path):
    pytest.importorskip("lm_eval")
    folder = str(write_tasks(tmp_path / "tasks"))
    told = {"lm_eval": lm_eval("own_write", include_path=folder, metadata={"lengths": [4, 8]})}
    [prepared] = prepare_benchmarks(told, EvaluateConfig()).values()
    [task] = prepared.interviewer.tasks.tasks.values()
    assert task.config.metadata["lengths"] == [4, 8]
    plain = {"lm_eval": lm_eval("own_write", include_path=folder)}
    assert "lengths" not in str(
        next(iter(prepare_benchmarks(plain, EvaluateConfig()).values())).interviewer.tasks.tasks
    )
    choices = lm_eval("own_law", include_path=folder, gen_kwargs={"max_gen_toks": 5})
    with pytest.raises(ConfigError, match=r"benchmarks\.lm_eval\.gen_kwargs: has no effect, none of the"):
        prepare_benchmarks({"lm_eval": choices}, EvaluateConfig())
    with pytest.raises(ConfigError, match=r"evaluate\.temperature: 0\.5 has no effect"):
        prepare_benchmarks(
            {"lm_eval": lm_eval("own_law", include_path=folder)}, EvaluateConfig(temperature=0.5)
        )
    with pytest.raises(
        ConfigError, match=r"benchmarks\.quiz\.gen_kwargs: .* is read for output_type: lm-eval"
    ):
        prepare_benchmarks({"quiz": quiz(tmp_path, gen_kwargs={"until": []})}, EvaluateConfig())
