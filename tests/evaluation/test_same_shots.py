"""An example before a question that asks the same would tell the answer."""

import pytest

from workbench.config.benchmark import BenchmarkConfig, LocalConfig, OutputType, ProtocolConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks


@pytest.mark.parametrize(
    ("protocol", "expected", "words"),
    [
        ("default", ["q2", "q3"], "is replaced by the next"),
        ("lm-eval", ["Q 1!", "q2"], "is kept, as in lm-evaluation-harness"),
    ],
)
def test_an_example_that_asks_the_same_gives_way_to_the_next_but_not_as_in_the_harness(
    tmp_path, protocol, expected, words
):
    (tmp_path / "dev.csv").write_text("q,a\nQ 1!,x\nq2,y\nq3,z\n")
    (tmp_path / "test.csv").write_text("q,a\nq1,x\nq9,y\n")
    config = BenchmarkConfig(
        language="en",
        path=str(tmp_path),
        local=LocalConfig(files={"dev": "dev.csv", "test": "test.csv"}),
        fewshot_split="dev",
        num_fewshot=2,
        output_type=OutputType.generation,
        question="{{ q }}",
        target="{{ a }}",
        metrics=["exact_match"],
        protocol=protocol,
        protocols={"lm-eval": ProtocolConfig()},
    )
    prepared = prepare_benchmarks({"quiz": config}, EvaluateConfig())["quiz"]
    assert [[shot.question for shot in one.shots] for one in prepared.examples] == [expected, ["Q 1!", "q2"]]
    [warning] = [text for text in prepared.warnings if "asks the same" in text]
    assert warning.startswith("1 questions have") and words in warning


def test_items_with_too_few_examples_are_counted(tmp_path):
    (tmp_path / "dev.csv").write_text("q,a\nQ 1!,x\nq2,y\n")
    (tmp_path / "test.csv").write_text("q,a\nq1,x\nq9,y\n")
    config = BenchmarkConfig(
        language="en",
        path=str(tmp_path),
        local=LocalConfig(files={"dev": "dev.csv", "test": "test.csv"}),
        fewshot_split="dev",
        num_fewshot=2,
        output_type=OutputType.generation,
        question="{{ q }}",
        target="{{ a }}",
        metrics=["exact_match"],
    )
    prepared = prepare_benchmarks({"quiz": config}, EvaluateConfig())["quiz"]
    assert [len(example.shots) for example in prepared.examples] == [1, 2]
    assert any(
        "1 of 2 items have fewer than num_fewshot=2 examples (the fewest: 1)" in text
        for text in prepared.warnings
    )
