"""What is encoded is what was written, in the harness's tokens or in those of the whole text."""

import json
import logging

import pytest
from test_engine import run
from tiny_llama import make_llama, make_tokenizer
from tokenizers import normalizers, processors
from transformers import PreTrainedTokenizerFast

from workbench.config.benchmark import BenchmarkConfig, OutputType, ProtocolConfig, Scoring
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError, DataError
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.classifier import TransformersClassifier
from workbench.evaluation.inference.encoding import encode, encode_pairs, refuse_empty
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.records import read_predictions
from workbench.evaluation.tasks.multiple_choice import MultipleChoice
from workbench.evaluation.tasks.perplexity import Perplexity
from workbench.run_dir import RunDir

PAIRS = [
    ("abc", "</s>"),
    ("abc", " </s>"),
    ("abc", " dog</s>"),
    ("abc", " dog"),
    ("abc</s>", " dog"),
    ("<s>abc", " dog"),
    ("abc<s>", " dog"),
    ("the cat sat on the ma", "t"),
    ("an answ", "er"),
    ("an answ", "er to the question"),
    ("the cat and the d", "og lay"),
    ("以下是关", "于农学"),
    ("", "<s>dog"),
    ("", "dog</s>"),
    ("\n", "dog"),
    ("the ", "<s>"),
]


def tokenizer_that_adds(before: str, after: str) -> PreTrainedTokenizerFast:
    """The tiny tokenizer with other special tokens around a text."""
    made = make_tokenizer()
    numbers = [(token, made.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    text = " ".join(part for part in (before, "$A", after) if part)
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(single=text, special_tokens=numbers)
    return made


def choices(tmp_path, *written: str, question: str = "abc", **changes) -> BenchmarkConfig:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"q": question, "written": written}) + "\n", encoding="utf-8")
    settings = {
        "language": "en",
        "path": str(file),
        "output_type": OutputType.multiple_choice,
        "question": "{{ q }}",
        "choices_from": "written",
        "target_index": "0",
        "delimiter": "",
    }
    return BenchmarkConfig(**settings | changes)


@pytest.mark.parametrize("frame", [("<s>", ""), ("", ""), ("<s>", "</s>"), ("", "</s>")])
def test_the_end_token_that_is_written_is_scored_and_the_one_that_is_added_is_not(frame):
    tokenizer = tokenizer_that_adds(*frame)
    end, dog = 1, tokenizer(" dog", add_special_tokens=False)["input_ids"]
    first, second, third = encode_pairs(tokenizer, [("abc", "</s>"), ("abc", " dog</s>"), ("abc", " dog")])
    assert first.tokens[first.first :] == (end,)
    assert second.tokens[second.first :] == (*dog, end)
    assert third.tokens[third.first :] == tuple(dog)
    assert encode(tokenizer, ["abc</s>"])[0][-1] == end
    assert encode(tokenizer, ["abc"])[0][-1] != end


def test_choices_that_differ_in_an_end_token_have_different_likelihoods(llama, tokenizer, tmp_path):
    run_dir = RunDir(tmp_path / "run")
    written = (" dog", " dog</s>", "</s>", " dog<s>")
    run(llama, tokenizer, choices(tmp_path, *written), predictions=run_dir.predictions)
    [prediction] = read_predictions(run_dir.predictions("base", "exam"))
    assert len(set(prediction.loglikelihoods)) == 4
    assert prediction.loglikelihoods[1] < prediction.loglikelihoods[0]


def test_a_classifier_reads_what_the_tokenizer_puts_after_a_text_as_in_training(classifier):
    tokenizer = tokenizer_that_adds("<s>", "</s>")
    encoded = TransformersClassifier(classifier, tokenizer, EvaluateConfig()).encode(["abc"])
    assert encoded == [tokenizer("abc")["input_ids"]] and encoded[0][-1] == 1


def test_a_context_keeps_its_tokens_as_in_the_harness_and_changes_them_in_the_whole_text(llama, tokenizer):
    context, answer = "an answ", "er to the question"
    own = tokenizer(context)["input_ids"]
    whole = tokenizer(context + answer)["input_ids"]
    assert whole[: len(own)] != own
    [kept] = encode_pairs(tokenizer, [(context, answer)])
    assert kept.tokens == (*own, *whole[len(own) :]) and kept.first == len(own) < len(kept.tokens)
    [changed] = encode_pairs(tokenizer, [(context, answer)], whole_text=True)
    common = next(n for n, (a, b) in enumerate(zip(own, whole, strict=False)) if a != b)
    assert changed.tokens == tuple(whole) and changed.first == common


def test_whole_text_scores_all_choices_of_an_item_from_the_same_token(llama, tokenizer, tmp_path):
    benchmark = choices(tmp_path, "er", " q", question="an answ", scoring=Scoring["whole-text"])
    lm = TransformersLM(llama, tokenizer, EvaluateConfig())
    answerer = MultipleChoice(lm, benchmark, EvaluateConfig())
    prepared = prepare_benchmarks({"exam": benchmark}, EvaluateConfig())["exam"]
    [requests] = answerer.requests(answerer.items(prepared.examples))
    assert requests[0].first == requests[1].first < len(tokenizer("an answ")["input_ids"])
    for request, text in zip(requests, ("an answer", "an answ q"), strict=True):
        assert request.tokens == tuple(tokenizer(text)["input_ids"])


def test_an_answer_that_adds_no_token_is_refused_with_its_item(llama, tokenizer, tmp_path):
    [request] = encode_pairs(tokenizer, [("an answe", "r")])
    assert request.first == len(request.tokens)
    words = r"^exam item 3: the answer 'r' adds no token after 'an answe', so nothing can be scored \("
    with pytest.raises(DataError, match=words):
        refuse_empty(request, ("an answe", "r"), "exam item 3")
    benchmark = choices(tmp_path, "r", " dog", question="an answe")
    with pytest.raises(DataError, match=r"^benchmarks\.exam: item 0: the answer 'r' adds no token"):
        run(llama, tokenizer, benchmark)
    benchmark.scoring = Scoring["whole-text"]
    assert run(llama, tokenizer, benchmark).scores[0].num_items == 1


def test_choices_that_become_the_same_tokens_are_said(llama, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    run(llama, tokenizer, choices(tmp_path, " Dog", " dog", " cat"))
    assert "1 items have two choices that are scored by the same tokens" in caplog.text
    assert "(item 0: ' Dog' and ' dog')" in caplog.text
    caplog.clear()
    run(llama, tokenizer, choices(tmp_path, " Dog", " cat"))
    assert caplog.text == ""


def test_perplexity_scores_the_beginning_token_under_lm_eval_alone(llama, tmp_path):
    (tmp_path / "text.txt").write_text("the cat sat on the mat")
    settings = {"language": "en", "path": str(tmp_path / "text.txt"), "output_type": OutputType.perplexity}
    benchmark = BenchmarkConfig(**settings, question="{{ text }}", metrics=["bits_per_byte"])
    benchmark.protocols = {"lm-eval": ProtocolConfig(num_fewshot=0)}
    kept = {"fingerprint": "f", "cache": tmp_path / "cache"}

    def total(frame: tuple[str, str], protocol: str) -> float:
        benchmark.protocol = protocol
        return run(llama, tokenizer_that_adds(*frame), benchmark).scores[0].value

    assert total(("<s>", ""), "lm-eval") > total(("<s>", ""), "default")
    assert total(("", ""), "lm-eval") == total(("", ""), "default") == total(("<s>", ""), "default")
    own = run(llama, make_tokenizer(), benchmark, **kept)
    benchmark.protocol = "lm-eval"
    assert run(llama, make_tokenizer(), benchmark, **kept).scores[0].value > own.scores[0].value


@pytest.mark.parametrize(
    ("output_type", "scoring"), [("perplexity", "mean-nll"), ("generation", "whole-text")]
)
def test_a_scoring_that_does_not_fit_is_refused(tmp_path, output_type, scoring):
    (tmp_path / "text.txt").write_text("the cat")
    metric = {"perplexity": "bits_per_byte", "generation": "exact_match"}[output_type]
    benchmark = BenchmarkConfig(
        language="en",
        path=str(tmp_path / "text.txt"),
        output_type=OutputType[output_type],
        question="{{ text }}",
        target="" if output_type == "perplexity" else "a",
        metrics=[metric],
        scoring=Scoring[scoring],
    )
    with pytest.raises(
        ConfigError, match=rf"benchmarks.b.scoring: '{scoring}' does not fit {output_type} \("
    ):
        prepare_benchmarks({"b": benchmark}, EvaluateConfig())


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("frame", [("<s>", ""), ("", "")])
def test_tokens_and_likelihoods_are_those_of_the_harness(frame):
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    tokenizer = tokenizer_that_adds(*frame)
    lm = TransformersLM(make_llama(), tokenizer, EvaluateConfig(max_length=48))
    harness = HFLM(pretrained=make_llama(), tokenizer=tokenizer, batch_size=1, device="cpu", max_length=48)
    refused = [pair for pair in PAIRS if pair[0] == "\n" and not frame[0]]
    for pair in PAIRS:
        [request] = lm.encode_pairs([pair])
        refused += [pair] if request.first == len(request.tokens) else []
    pairs = [pair for pair in PAIRS if pair not in refused]
    assert len(pairs) > 9, refused

    def ask(kind: str, arguments: list[tuple]) -> list:
        made = [Instance(kind, {}, a, n, metadata=(None, None, None)) for n, a in enumerate(arguments)]
        return getattr(harness, kind)(made)

    for pair in refused:
        with pytest.raises(AssertionError):
            ask("loglikelihood", [pair])
    found = lm.loglikelihoods(lm.encode_pairs(pairs))
    for pair, ours, (theirs, greedy) in zip(pairs, found, ask("loglikelihood", pairs), strict=True):
        assert ours.loglikelihood == pytest.approx(theirs, abs=1e-4), pair
        assert ours.greedy == greedy
    scorer = Perplexity(lm, as_harness=True)
    texts = ["the cat", "<s>the cat", "cat</s>", "the dog lay under the table and " * 20, "没有上文"]
    for text, theirs in zip(texts, ask("loglikelihood_rolling", [(t,) for t in texts]), strict=True):
        ours = lm.loglikelihoods(scorer.windows(scorer.tokens(text)))
        assert sum(f.loglikelihood for f in ours) == pytest.approx(theirs, abs=1e-3), text
