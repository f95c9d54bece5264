"""How generated texts end is counted beside their score, and a thought is no part of the answer."""

import json

import pytest
from harness_tasks import write_tasks
from test_engine import run
from test_harness import lm_eval
from tiny_llama import make_tokenizer

from workbench.config.benchmark import BenchmarkConfig, Extract, GenerationConfig, OutputType
from workbench.evaluation.extraction.thoughts import after_thoughts, ends_in_thought
from workbench.evaluation.metrics.text_counts import num_unextracted, text_counts
from workbench.evaluation.records import Answer, read_predictions, read_results, write_results
from workbench.run_dir import RunDir

QUESTIONS = ["the cat sat on", "the dog lay under", "one two three", "which of these is right", "a question"]


def quiz(folder, **changes) -> BenchmarkConfig:
    rows = [{"question": question, "answer": "A"} for question in QUESTIONS]
    (folder / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "language": "en",
        "path": str(folder / "quiz.jsonl"),
        "output_type": OutputType.generation,
        "question": "{{ question }}",
        "choices": ["A", "B"],
        "target": "{{ answer }}",
        "metrics": ["exact_match"],
        "generation": GenerationConfig(max_new_tokens=5, stop=["t"], extract=Extract.letter),
    }
    return BenchmarkConfig(**settings | changes)


@pytest.mark.parametrize(
    ("text", "is_opened", "ends_within", "after"),
    [
        ("B", False, False, "B"),
        ("<think>A?</think>\n\nB", False, False, "\n\nB"),
        ("A?</think>B", True, False, "B"),
        ("A?", True, True, ""),
        ("<think>A?", False, True, ""),
        ("<think>A</think>B<think>C", False, True, "B"),
        ("no <thinking> tag</thinking>B", True, False, "B"),
        ("</think>", True, False, ""),
    ],
)
def test_a_thought_is_told_from_the_answer_after_it(text, is_opened, ends_within, after):
    assert ends_in_thought(text, is_opened) is ends_within
    assert after_thoughts(text, is_opened) == after


def test_texts_are_counted_by_how_they_end():
    texts = [
        ("Q", Answer(generation="B", finish_reason="stop")),
        ("Q<think>\n", Answer(generation="hm", finish_reason="length")),
        ("Q", Answer(generation="hm", finish_reason="length")),
        ("Q", Answer(generation="hm")),
        ("Q", Answer(loglikelihoods=(-1.0, -2.0))),
    ]
    assert text_counts(texts) == {"texts": 4, "stop": 1, "length": 2, "in_thought": 1}
    assert text_counts(texts[4:]) == {}
    assert num_unextracted(["B", None, "", "[invalid]", "0", 0]) == 3


def test_the_counts_of_a_model_s_texts_are_in_its_results_and_each_reason_in_its_prediction(
    tmp_path, llama, tokenizer
):
    run_dir = RunDir(tmp_path)
    evaluation = run(
        llama, tokenizer, quiz(tmp_path), predictions=run_dir.predictions, fingerprint="x", cache=tmp_path
    )
    [score] = evaluation.scores
    [file] = (tmp_path / "predictions").rglob("*.jsonl")
    predictions = read_predictions(file)
    reasons = [prediction.finish_reason for prediction in predictions]
    assert set(reasons) == {"stop", "length"}
    for prediction in predictions:
        has_stop = "t" not in prediction.generation
        assert has_stop and (prediction.finish_reason == "length" or len(prediction.generation) < 40)
    assert score.texts == {
        "texts": 5,
        "stop": reasons.count("stop"),
        "length": reasons.count("length"),
        "in_thought": 0,
        "unextracted": sum(prediction.prediction is None for prediction in predictions),
    }
    write_results(tmp_path / "results.json", {"models": {}}, [score])
    assert read_results(tmp_path / "results.json")[1] == [score]
    again = run(llama, tokenizer, quiz(tmp_path), fingerprint="x", cache=tmp_path)
    assert again.scores == [score]


def test_a_thought_that_the_prompt_opens_is_not_read_as_the_answer(tmp_path, llama):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}<think>\n"
    whole = quiz(tmp_path, generation=GenerationConfig(max_new_tokens=5, stop=[]))
    run_dir = RunDir(tmp_path)
    [score] = run(llama, tokenizer, whole, {"chat_template": True}, predictions=run_dir.predictions).scores
    assert score.texts["in_thought"] == score.texts["unextracted"] == 5
    [file] = (tmp_path / "predictions").rglob("*.jsonl")
    assert all(each.generation and each.prediction == "" for each in read_predictions(file))


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_the_texts_of_a_task_are_counted_by_each_filter(tmp_path, llama, tokenizer):
    pytest.importorskip("lm_eval")
    folder = write_tasks(tmp_path / "tasks")
    written = run(llama, tokenizer, lm_eval("own_write", include_path=str(folder))).scores
    assert [score.metric for score in written] == ["exact_match,whole", "exact_match,word"]
    for score in written:
        assert score.texts["texts"] == 9 == score.texts["stop"] + score.texts["length"]
    run_dir = RunDir(tmp_path)
    run(llama, tokenizer, lm_eval("own_write", include_path=str(folder)), predictions=run_dir.predictions)
    [file] = (tmp_path / "predictions").rglob("*.jsonl")
    texts = [prediction.generation for prediction in read_predictions(file)]
    assert written[0].texts["unextracted"] == sum(not text for text in texts)
    assert written[1].texts["unextracted"] == sum(not any(map(str.isalnum, text)) for text in texts)
    [chosen] = run(llama, tokenizer, lm_eval("own_law", include_path=str(folder), metrics=["acc"])).scores
    assert chosen.texts == {}
