import json
import random
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from tiny_llama import llama_config
from transformers import GenerationConfig as TransformersGenerationConfig

from workbench.config.benchmark import (
    Average,
    BenchmarkConfig,
    Extract,
    GenerationConfig,
    LocalConfig,
    OutputType,
    Sample,
    Scoring,
)
from workbench.config.evaluate import EvaluateConfig
from workbench.config.model import Dtype, ModelConfig
from workbench.config.quantization import QuantizationConfig
from workbench.errors import CheckpointError, ConfigError, DataError
from workbench.evaluation import answer_cache
from workbench.evaluation.engine import Evaluation, evaluate
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.inference.decoding.slot_decoding import takes_shared_prefixes
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.records import Answer, read_predictions
from workbench.evaluation.tasks.multiple_choice import MultipleChoice
from workbench.evaluation.tasks.requests import TemplateFormat, item
from workbench.models import OpenLlamaForCausalLM
from workbench.models.loading import load_model
from workbench.run_dir import RunDir

WORDS = ["cat", "dog", "mat", "table", "answer", "question", "right", "one", "two", "three", "four", "five"]


@pytest.fixture
def exam(tmp_path: Path) -> BenchmarkConfig:
    rng = random.Random(0)
    for split, count in {"test": 8, "dev": 3}.items():
        for subset in ("law", "art"):
            rows = []
            for _ in range(count):
                a, b, c, d = rng.sample(WORDS, 4)
                rows.append(f"{' '.join(rng.choices(WORDS, k=6))},{a},{b},{c},{d},{rng.choice('ABCD')}")
            file = tmp_path / split / f"{subset}.csv"
            file.parent.mkdir(exist_ok=True)
            file.write_text("\n".join(["Question,A,B,C,D,Answer", *rows]) + "\n")
    return BenchmarkConfig(
        language="en",
        path=str(tmp_path),
        local=LocalConfig(files={"test": "test/{subset}.csv", "dev": "dev/{subset}.csv"}),
        subsets={"law": "law", "art": "art"},
        groups={"all": ["law", "art"]},
        fewshot_split="dev",
        num_fewshot=2,
        output_type=OutputType.multiple_choice,
        description="about {{ title }}\n",
        question="{{ Question }}\nA. {{ A }}\nB. {{ B }}\nC. {{ C }}\nD. {{ D }}\nAnswer:",
        choices=["A", "B", "C", "D"],
        target="{{ Answer }}",
        metrics=["acc", "acc_norm", "macro_f1"],
    )


def run(model, tokenizer, benchmark: BenchmarkConfig, settings: dict | None = None, **more) -> Evaluation:
    config = EvaluateConfig(**(settings or {}))
    return evaluate(
        model, tokenizer, prepare_benchmarks({"exam": benchmark}, config), config, model_name="base", **more
    )


def test_a_score_says_what_it_was_measured_with(llama, tokenizer, exam, tmp_path):
    run_dir = RunDir(tmp_path / "run")
    found = run(llama, tokenizer, exam, predictions=run_dir.predictions)
    acc = found.scores[0]
    predictions = read_predictions(run_dir.predictions("base", "exam"))
    assert (acc.metric, acc.num_items, acc.num_fewshot, acc.protocol, acc.chance) == (
        "acc",
        16,
        2,
        "default",
        0.25,
    )
    assert acc.value == sum(p.scores["acc"] for p in predictions) / 16
    assert acc.value == pytest.approx((acc.subsets["law"]["value"] + acc.subsets["art"]["value"]) / 2)
    assert acc.groups == {"all": {"value": acc.value, "num_items": 16}}
    assert acc.interval[0] <= acc.value <= acc.interval[1]
    assert [p.id for p in predictions[:2]] == ["law/0", "law/1"]
    assert all(p.scores["acc"] == float(p.prediction == p.target) for p in predictions)
    assert predictions[0].context.startswith("about law\n")
    assert [s.metric for s in found.scores] == ["acc", "acc_norm", "macro_f1"]
    assert found.measured["exam"]["num_asked"] == 16


def test_the_same_inputs_give_the_same_bytes(llama, tokenizer, exam, tmp_path):
    files = []
    for name, settings in (("a", {}), ("b", {"batch_tokens": 64})):
        run_dir = RunDir(tmp_path / name)
        run(llama, tokenizer, exam, settings, predictions=run_dir.predictions)
        files.append(read_predictions(run_dir.predictions("base", "exam")))
    first, second = files
    assert [p.prediction for p in first] == [p.prediction for p in second]
    assert [p.prompt_hash for p in first] == [p.prompt_hash for p in second]
    for a, b in zip(first, second, strict=True):
        assert a.loglikelihoods == pytest.approx(b.loglikelihoods, abs=1e-4)


def test_evaluation_leaves_modes_and_the_global_random_state_as_they_were(llama, tokenizer, exam):
    llama.train()
    state = torch.random.get_rng_state()
    run(llama, tokenizer, exam)
    assert llama.training and torch.equal(torch.random.get_rng_state(), state)
    llama.eval()


def test_answers_are_kept_under_the_models_fingerprint_and_the_prompt(llama, tokenizer, exam, tmp_path):
    def asked(fingerprint: str, **changes) -> float:
        benchmark = BenchmarkConfig(**vars(exam) | changes)
        found = run(llama, tokenizer, benchmark, fingerprint=fingerprint, cache=tmp_path / "answers")
        return found.measured["exam"]["num_asked"]

    assert asked("model one", limit=3) == 6
    assert asked("model one") == 10
    assert asked("model one") == 0
    assert asked("model two") == 16
    assert asked("model one", delimiter="") == 16
    assert asked("model one", scoring=Scoring["mean-nll"]) == 16


def test_a_killed_run_continues_where_it_was(llama, tokenizer, exam, tmp_path, monkeypatch):
    add = answer_cache.Writer.add

    def add_and_photograph(writer: answer_cache.Writer, prompt: str, answer: Answer) -> None:
        add(writer, prompt, answer)
        if len(writer.cache.answers) == 5:
            shutil.copytree(tmp_path / "answers", tmp_path / "killed")

    monkeypatch.setattr(answer_cache.Writer, "add", add_and_photograph)
    whole = run(llama, tokenizer, exam, fingerprint="f", cache=tmp_path / "answers")
    [file] = (tmp_path / "killed").glob("*.jsonl")
    with file.open("a") as handle:
        handle.write('{"prompt": "cut sho')
    rest = run(llama, tokenizer, exam, fingerprint="f", cache=tmp_path / "killed")
    assert rest.measured["exam"]["num_asked"] == 11
    assert rest.scores == whole.scores
    assert (
        run(llama, tokenizer, exam, fingerprint="f", cache=tmp_path / "killed").measured["exam"]["num_asked"]
        == 0
    )


def test_examples_are_dropped_from_the_left_until_the_prompt_fits_and_counted(
    llama, tokenizer, exam, tmp_path
):
    run_dir = RunDir(tmp_path / "run")
    [acc, *_] = run(llama, tokenizer, exam, {"max_length": 75}, predictions=run_dir.predictions).scores
    predictions = read_predictions(run_dir.predictions("base", "exam"))
    assert 0 < acc.num_shots_dropped == sum(p.num_shots_dropped for p in predictions)
    for p in predictions:
        assert len(tokenizer(p.context + " A")["input_ids"]) <= 76
        assert p.context.startswith("about ") and p.context.count("Answer:") == 3 - p.num_shots_dropped


def test_a_question_that_is_too_long_alone_is_never_cut(llama, tokenizer, exam):
    with pytest.raises(
        DataError, match=r"item law/0: the question without examples is longer than the 21 tokens"
    ):
        run(llama, tokenizer, exam, {"max_length": 20})


def test_logits_that_are_not_numbers_are_told(tokenizer, exam):
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(llama_config()).eval()
    model.model.embed_tokens.weight.data[tokenizer("Answer")["input_ids"][1:]] = float("nan")
    with pytest.raises(CheckpointError, match=r"item law/\d: the model's logits are NaN"):
        run(model, tokenizer, exam)
    model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(CheckpointError, match="base: the model's logits are NaN"):
        run(model, tokenizer, exam)


@pytest.mark.parametrize("shared", [True, False])
def test_generation_tells_logits_that_are_not_numbers(llama, tokenizer, exam, shared, monkeypatch):
    forward = type(llama).forward

    def overflows(self, *given, **named):
        cache = named.get("past_key_values")
        after_prompt = named["input_ids"].shape[1] == 1 and cache is not None and cache.get_seq_length() > 1
        output = forward(self, *given, **named)
        if after_prompt:
            output.logits[-1] = torch.nan
        return output

    monkeypatch.setattr(type(llama), "forward", overflows)
    with pytest.raises(CheckpointError, match=r"after a prompt of \d+ tokens: the model.s logits are NaN"):
        run(llama, tokenizer, generation(exam), {"shared_prefix": shared})


def test_macro_average_counts_every_subset_the_same(llama, tokenizer, exam):
    exam.average = Average.macro
    (Path(exam.path) / "test" / "art.csv").write_text("Question,A,B,C,D,Answer\nx,a,b,c,d,A\ny,a,b,c,d,A\n")
    [acc, *_] = run(llama, tokenizer, exam).scores
    assert acc.average == "macro"
    assert acc.value == pytest.approx((acc.subsets["law"]["value"] + acc.subsets["art"]["value"]) / 2)


def test_next_token_scores_are_those_of_the_bare_letters(llama, tokenizer, exam, tmp_path):
    exam.scoring = Scoring["next-token"]
    run_dir = RunDir(tmp_path / "run")
    run(llama, tokenizer, exam, predictions=run_dir.predictions)
    first = read_predictions(run_dir.predictions("base", "exam"))[0]
    ids = torch.tensor([tokenizer(first.context)["input_ids"]])
    logprobs = llama(input_ids=ids).logits[0, -1].log_softmax(-1)
    letters = [tokenizer(x, add_special_tokens=False)["input_ids"][-1] for x in "ABCD"]
    assert first.loglikelihoods == pytest.approx(logprobs[letters].tolist(), abs=1e-4)


def test_mean_nll_is_over_all_tokens_of_prompt_and_answer(llama, tokenizer, exam, tmp_path):
    exam.scoring = Scoring["mean-nll"]
    run_dir = RunDir(tmp_path / "run")
    run(llama, tokenizer, exam, predictions=run_dir.predictions)
    first = read_predictions(run_dir.predictions("base", "exam"))[0]
    ids = torch.tensor([tokenizer(first.context + " B")["input_ids"]])
    loss = llama(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
    assert first.loglikelihoods[1] == pytest.approx(-loss / ids.shape[1], abs=1e-5)


def generation(exam: BenchmarkConfig, **limits) -> BenchmarkConfig:
    changes = {
        "output_type": OutputType.generation,
        "choices": [],
        "metrics": ["exact_match"],
        "generation": GenerationConfig(**{"max_new_tokens": 12, "stop": []} | limits),
    }
    return BenchmarkConfig(**vars(exam) | changes)


def generate_alone(model, tokenizer, context: str, count: int) -> str:
    ids = torch.tensor([tokenizer(context)["input_ids"]])
    made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False)
    return tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.fixture
def open_llama(llama, tmp_path) -> OpenLlamaForCausalLM:
    llama.save_pretrained(tmp_path / "llama")
    return load_model(ModelConfig(path=str(tmp_path / "llama"), dtype=Dtype.float32), QuantizationConfig())


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("model", ["llama", "open_llama"])
def test_generated_texts_equal_those_generated_alone(request, model, tokenizer, exam, tmp_path, shared):
    llama = request.getfixturevalue(model)
    assert takes_shared_prefixes(llama) == (model == "open_llama")
    run_dir = RunDir(tmp_path / "run")
    run(llama, tokenizer, generation(exam), {"shared_prefix": shared}, predictions=run_dir.predictions)
    predictions = read_predictions(run_dir.predictions("base", "exam"))
    for p in predictions:  # half a character at the token limit is left out
        alone = generate_alone(llama, tokenizer, p.context, 12)
        assert p.generation in (alone, alone.rstrip("\ufffd"))
    assert len({p.generation for p in predictions}) > 4


def test_texts_are_generated_in_the_context_for_decoding_and_nothing_else_is(llama, tokenizer, exam):
    calls = []

    def decoding():
        calls.append("entered")
        return nullcontext()

    run(llama, tokenizer, exam, decoding=decoding)
    assert calls == []
    run(llama, tokenizer, generation(exam), decoding=decoding)
    assert calls == ["entered"]


def test_a_chinese_stop_text_of_single_bytes_ends_an_answer(llama, tokenizer):
    lm = TransformersLM(llama, tokenizer, EvaluateConfig())
    decoder = Decoder(lm, GenerationConfig(max_new_tokens=99, stop=["这里还有别的问题"]))
    made = tokenizer("想想这里还有别的问题", add_special_tokens=False)["input_ids"]
    assert len(made) > 24  # so many tokens as bytes
    assert decoder.endings.finished(made, 99)
    assert not decoder.endings.finished(made[:-1], 99)


def test_a_generated_text_ends_before_the_first_stop_text(llama, tokenizer, exam, tmp_path):
    run_dir = RunDir(tmp_path / "whole")
    run(llama, tokenizer, generation(exam), predictions=run_dir.predictions)
    whole = read_predictions(run_dir.predictions("base", "exam"))
    stop = whole[0].generation[3:6]
    cut_dir = RunDir(tmp_path / "cut")
    run(llama, tokenizer, generation(exam, stop=[stop]), predictions=cut_dir.predictions)
    for a, b in zip(whole, read_predictions(cut_dir.predictions("base", "exam")), strict=True):
        assert b.generation == a.generation.split(stop)[0]


def test_sampled_texts_depend_on_item_and_seed_alone(llama, tokenizer, exam, tmp_path):
    def texts(name: str, limit: int | None, **settings) -> list[str]:
        run_dir = RunDir(tmp_path / name)
        sampled = generation(exam, temperature=1.0)
        sampled.limit, sampled.sample = limit, Sample.first
        run(llama, tokenizer, sampled, settings, predictions=run_dir.predictions)
        return [p.generation for p in read_predictions(run_dir.predictions("base", "exam")) if "law" in p.id]

    everything = texts("a", None)
    assert texts("b", 3) == everything[:3]
    assert texts("c", None, fewshot_seed=5) != everything


def test_a_classification_head_is_scored_like_one_text_at_a_time(classifier, tokenizer, tmp_path):
    file = tmp_path / "texts.jsonl"
    rng = random.Random(1)
    rows = [
        {"text": " ".join(rng.choices(WORDS, k=rng.randint(1, 12))), "label": rng.randrange(3)}
        for _ in range(12)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    benchmark = BenchmarkConfig(
        language="en",
        path=str(file),
        output_type=OutputType.classification,
        question="{{ text }}",
        target_index="label",
        metrics=["acc", "macro_f1", "mcc"],
    )
    run_dir = RunDir(tmp_path / "run")
    found = run(classifier, tokenizer, benchmark, predictions=run_dir.predictions, note="untrained head")
    for row, p in zip(rows, read_predictions(run_dir.predictions("base", "exam")), strict=True):
        ids = torch.tensor([tokenizer(row["text"])["input_ids"]])
        expected = classifier(input_ids=ids).logits[0].log_softmax(-1)
        assert p.loglikelihoods == pytest.approx(expected.tolist(), abs=1e-4)
        assert (p.prediction, p.target) == (int(expected.argmax()), row["label"])
    labels = [row["label"] for row in rows]
    assert found.scores[0].majority == max(map(labels.count, labels)) / 12
    assert found.scores[0].note == "untrained head"
    assert found.scores[1].interval[0] <= found.scores[1].value <= found.scores[1].interval[1]


def test_a_benchmark_with_other_labels_than_the_head_is_refused(classifier, tokenizer, tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "cat", "label": 0}')
    benchmark = BenchmarkConfig(
        language="en",
        path=str(file),
        output_type=OutputType.classification,
        question="{{ text }}",
        target_index="label",
        choices=["good", "bad"],
    )
    with pytest.raises(ConfigError, match="are not the head's labels"):
        run(classifier, tokenizer, benchmark)


def test_perplexity_of_a_long_text_scores_every_token_once(llama, tokenizer, tmp_path):
    text = " ".join(random.Random(2).choices(WORDS, k=120))
    (tmp_path / "text.txt").write_text(text)
    benchmark = BenchmarkConfig(
        language="en",
        path=str(tmp_path / "text.txt"),
        output_type=OutputType.perplexity,
        question="{{ text }}",
        metrics=["bits_per_byte", "token_perplexity"],
    )
    window = 50
    found = run(llama, tokenizer, benchmark, {"max_length": window})
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) > 2 * window
    total = 0.0
    for start in range(0, len(ids), window):
        end = min(start + window, len(ids))
        begin = max(0, end - window)
        sequence = torch.tensor([[0, *ids][begin : end + 1]])
        logprobs = llama(input_ids=sequence[:, :-1]).logits[0].log_softmax(-1)
        values = logprobs.gather(-1, sequence[0, 1:, None])[:, 0]
        total += values[start - begin :].sum().item()
    bits, perplexity = found.scores
    assert bits.value == pytest.approx(-total / 0.6931471805599453 / len(text.encode()), rel=1e-4)
    assert perplexity.value == pytest.approx(2.718281828459045 ** (-total / len(ids)), rel=1e-4)
    assert bits.stderr is None
    whole = run(llama, tokenizer, benchmark).scores[0]
    assert whole.prompts == bits.prompts and whole.rule != bits.rule, "of other windows, so not compared"


def test_a_chat_template_wraps_description_examples_and_question(llama, tokenizer, exam, tmp_path):
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    run_dir = RunDir(tmp_path / "run")
    run(llama, tokenizer, exam, {"chat_template": True}, predictions=run_dir.predictions)
    tokenizer.chat_template = None
    context = read_predictions(run_dir.predictions("base", "exam"))[0].context
    assert context.startswith("[system]about law\n[user]") and context.endswith("Answer:\n[assistant]")
    assert context.count("[user]") == 3


def test_arguments_of_a_chat_template_are_in_the_prompt(llama, tokenizer, exam, tmp_path, monkeypatch):
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{{ '[quick]' if not enable_thinking }}"
    monkeypatch.setattr(tokenizer, "chat_template", template)
    contexts = []
    for arguments in ({"enable_thinking": True}, {"enable_thinking": False}):
        run_dir = RunDir(tmp_path / str(arguments["enable_thinking"]))
        settings = {"chat_template": True, "template_arguments": arguments}
        run(llama, tokenizer, exam, settings, predictions=run_dir.predictions)
        contexts.append(read_predictions(run_dir.predictions("base", "exam"))[0].context)
    assert contexts[1] == contexts[0] + "[quick]"


@pytest.mark.parametrize("shared", [True, False])
def test_what_a_checkpoint_likes_to_generate_with_changes_no_answer(llama, tokenizer, exam, tmp_path, shared):
    own = llama.generation_config
    files = []
    for name in ("plain", "penalty"):
        run_dir = RunDir(tmp_path / name)
        run(llama, tokenizer, generation(exam), {"shared_prefix": shared}, predictions=run_dir.predictions)
        files.append(run_dir.predictions("base", "exam").read_bytes())
        llama.generation_config = TransformersGenerationConfig(repetition_penalty=1.8, no_repeat_ngram_size=1)
    llama.generation_config = own
    assert files[0] == files[1]


def test_a_chat_template_stands_where_the_delimiter_would(llama, tokenizer, exam, monkeypatch):
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    monkeypatch.setattr(tokenizer, "chat_template", template)
    [first, *_] = prepare_benchmarks({"exam": exam}, EvaluateConfig())["exam"].examples
    context, continuation = item(first, 0, TemplateFormat(tokenizer)).pairs[0]
    assert context.endswith("<assistant>") and continuation == "A"
    assert item(first, 0).pairs[0][1] == " A"


def test_generated_letters_are_looked_for_among_the_choices(llama, tokenizer, exam, tmp_path, monkeypatch):
    answer = tokenizer("I think it is C.", add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(Decoder, "tokens", lambda self, prompts, seeds: enumerate([answer] * len(prompts)))
    run_dir = RunDir(tmp_path / "run")
    lettered = generation(exam, extract=Extract.letter)
    lettered.choices = exam.choices
    run(llama, tokenizer, lettered, predictions=run_dir.predictions)
    assert {p.prediction for p in read_predictions(run_dir.predictions("base", "exam"))} == {"C"}


def test_a_label_that_the_head_does_not_have_is_refused(classifier, tokenizer, tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"text": "cat", "label": 3}')
    benchmark = BenchmarkConfig(
        language="en",
        path=str(tmp_path / "texts.jsonl"),
        output_type=OutputType.classification,
        question="{{ text }}",
        target_index="label",
    )
    with pytest.raises(ConfigError, match=r"exam.target_index: item 0 has label 3, but the head has only 3"):
        run(classifier, tokenizer, benchmark)


def test_another_metric_of_kept_answers_asks_what_it_needs_besides(llama, tokenizer, exam, tmp_path):
    kept = {"fingerprint": "f", "cache": tmp_path / "cache"}
    assert run(llama, tokenizer, exam, **kept).measured["exam"]["num_asked"] == 16
    exam.metrics = ["acc_pmi"]
    assert run(llama, tokenizer, exam, **kept).measured["exam"]["num_asked"] == 16
    assert run(llama, tokenizer, exam, {"shared_prefix": False}, **kept).measured["exam"]["num_asked"] == 16


@pytest.mark.parametrize("per_choice", [False, True])
def test_pmi_of_a_single_token_takes_out_what_the_unconditional_prompt_gives(
    llama, tokenizer, exam, per_choice
):
    exam.metrics, exam.scoring, exam.unconditional = ["acc_pmi"], Scoring["next-token"], "an answer:"
    if per_choice:
        exam.question += "{{ choice }}"
    lm = TransformersLM(llama, tokenizer, EvaluateConfig())
    answerer = MultipleChoice(lm, exam, EvaluateConfig())
    prepared = prepare_benchmarks({"exam": exam}, EvaluateConfig())["exam"]
    [(_, answer)] = answerer.answers(answerer.items(prepared.examples[:1]))
    free = lm.encode(["an answer:"])[0]
    letters = [tokenizer(letter, add_special_tokens=False)["input_ids"][-1] for letter in "ABCD"]
    expected = llama(torch.tensor([free])).logits[0, -1].log_softmax(-1)[letters].tolist()
    assert answer.unconditional == pytest.approx(expected, abs=1e-4)
