"""What an evaluation says of prompts and answers that make a score another one than it seems."""

import json
import logging

import pytest

from workbench.config.benchmark import BenchmarkConfig, GenerationConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.engine import evaluate
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks

CHAT = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
OPENED = "end within a thought"
BEGIN = "prompts begin with '<s>'"


@pytest.fixture
def warned(llama, tokenizer, tmp_path, monkeypatch, caplog):
    """Ask two questions, which are answered by given texts, and return the warnings."""
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    rows = [{"question": "the cat", "answer": "one"}, {"question": "the dog", "answer": "two"}]
    (tmp_path / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def ask(template: str | None, *texts: str) -> str:
        monkeypatch.setattr(tokenizer, "chat_template", template)
        tokens = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        monkeypatch.setattr(Decoder, "tokens", lambda self, prompts, seeds: enumerate(tokens))
        quiz = BenchmarkConfig(
            language="en",
            path=str(tmp_path / "quiz.jsonl"),
            output_type=OutputType.generation,
            question="{{ question }}",
            target="{{ answer }}",
            metrics=["exact_match"],
            generation=GenerationConfig(stop=[]),
        )
        settings = EvaluateConfig(chat_template=template is not None)
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="workbench"):
            evaluate(
                llama, tokenizer, prepare_benchmarks({"quiz": quiz}, settings), settings, model_name="base"
            )
        return caplog.text

    return ask


def test_answers_that_end_within_a_thought_are_counted(warned):
    assert f"1 of 2 answers {OPENED}" in warned(None, "<think>", "<think>\nx\n</think>\n\ntwo")
    assert f"2 of 2 answers {OPENED}" in warned(CHAT + "<think>\n", "so", "thus")
    assert OPENED not in warned(CHAT + "<think>\n", "so</think>one", "</think>two")
    assert OPENED not in warned(None, "one", "two")


def test_a_text_within_a_thought_says_how_it_ended_and_what_this_run_takes_against_it(warned):
    budget, none = "evaluate.thinking_budget=2000 closes", "evaluate.template_arguments={enable_thinking"
    plain, chat = warned(None, "<think>", "two"), warned(CHAT + "<think>\n", "so</s>", "thus</s>")
    assert budget in plain and none not in plain  # which is refused without a chat template
    assert budget in chat and none in chat and "ended by the model or by generation.stop" in chat
    assert "max_new_tokens" not in chat
    cut = warned(None, "<think>so", "<think></s>")
    assert "1 cut off by generation.max_new_tokens, 1 ended by the model or by generation.stop" in cut
    assert "a larger benchmarks.quiz.generation.max_new_tokens" in cut


@pytest.mark.parametrize(
    ("template", "is_told"), [(CHAT, True), ("{{ bos_token }}" + CHAT, False), (None, False)]
)
def test_a_begin_token_that_the_chat_template_does_not_write_is_told(warned, template, is_told):
    assert (BEGIN in warned(template, "one", "two")) is is_told
