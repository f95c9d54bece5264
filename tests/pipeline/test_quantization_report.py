"""The quantization report: the same numbers as compare, save_pretrained and a hand computation give."""

import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from gguf import GGUFReader, dequantize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import workbench
from workbench.api.loading import load_model
from workbench.config.evaluate import EvaluateConfig
from workbench.config.inspection.quantization_report import NumberFormat
from workbench.config.model import ModelConfig
from workbench.config.quantization import QuantizationConfig
from workbench.errors import CheckpointError, ConfigError
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.records import read_predictions, read_results
from workbench.models import loading
from workbench.models.dequantized import save_dequantized
from workbench.pipeline.quantization_report.probe import probe_rows
from workbench.pipeline.quantization_report.speeds import alternate, prompt_of
from workbench.pipeline.quantization_report.stored_as import in_format
from workbench.pipeline.quantization_report.subject import Subject
from workbench.run_dir import RunDir, read_json
from workbench.shipped import PACKAGE
from workbench.statistics.family import ERROR_RATES
from workbench.statistics.paired import compare_paired

NAMES = ("toy_choice_zh", "toy_choice_en")
ASKED = (
    f"benchmark=[{','.join(NAMES)}]",
    *(f"benchmarks.{name}.limit=60" for name in NAMES),
    "quantization_report.num_texts=12",
)
NO_SPEED = "quantization_report.rounds=0"
FORMATS = "quantization_report.formats=[int8,nf4]"


@pytest.fixture(scope="module")
def reported(run_once):
    """A merged run of the quickstart, on an NF4 base, and its report."""
    folder = run_once(
        lambda folder: None,
        "quickstart",
        *ASKED,
        FORMATS,
        "train.max_steps=30",
        "quantization_report.rounds=0",
        "steps=[train,merge,evaluate,quantization_report]",
        "run_dir=run",
    )
    return RunDir(folder / "run")


@pytest.fixture(scope="module")
def report(reported):
    return read_json(reported.quantization_json)


def answers(run_dir, model, held_as, benchmark):
    predictions = read_predictions(run_dir.quantization / model / held_as / f"{benchmark}.jsonl")
    return np.array([prediction.scores["acc"] for prediction in predictions])


def line(report, held_as):
    return next(line for line in report["formats"] if line["held_as"] == held_as)


def differences(report):
    return [
        score["against_none"]
        for entry in report["formats"][1:]
        for score in entry["scores"]
        if score["metric"] == "acc"
    ]


def test_the_unquantized_model_has_the_scores_of_the_evaluate_step(reported, report):
    _, scores = read_results(reported.results_json)
    merged = {(one.benchmark, one.metric): one.value for one in scores if one.model == "merged"}
    found = {(one["benchmark"], one["metric"]): one["value"] for one in line(report, "none")["scores"]}
    assert found == merged


def test_each_difference_is_that_of_compare_at_the_level_of_one_family(reported, report):
    benchmarks = [workbench.load_benchmark(name, limit=60) for name in NAMES]
    results = {}
    for held_as in ("none", "int8", "nf4"):
        model, tokenizer = load_model(reported.merged, quantization=held_as)
        results[held_as] = workbench.evaluate(model, tokenizer, benchmarks, name=held_as)
    size = report["family"]["size"]
    assert size == 2 * len(NAMES) + 2  # and the mean over both languages
    for held_as in ("int8", "nf4"):
        rows = {row.benchmark: row for row in workbench.compare(results["none"], results[held_as]).rows}
        for score in line(report, held_as)["scores"]:
            ours, theirs = score["against_none"], rows[score["benchmark"]].difference
            if score["metric"] != rows[score["benchmark"]].metric:
                continue
            for name in ("value", "gained", "lost", "p_value", "num_pairs", "test"):
                assert ours[name] == getattr(theirs, name), name
            assert ours["p_adjusted"] == min(1.0, size * theirs.p_value)
            first, second = (
                answers(reported, "merged", way, score["benchmark"]) for way in ("none", held_as)
            )
            test = compare_paired(first, second, alpha=ERROR_RATES["pairs"] / size)
            assert (ours["low"], ours["high"]) == pytest.approx((test.low, test.high))


def test_divergence_and_agreement_are_those_of_the_loaded_models(reported, report):
    configs = {name: workbench.load_benchmark(name, limit=60).config for name in NAMES}
    whole, tokenizer = load_model(reported.merged)
    rows = probe_rows(prepare_benchmarks(configs, EvaluateConfig()), tokenizer, 12, 128)
    small, _ = load_model(reported.merged, quantization="nf4")
    kl, agreeing = 0.0, 0
    with torch.no_grad():
        for row in rows:
            ours, theirs = (model(torch.tensor([row])).logits[0] for model in (whole, small))
            kl += F.kl_div(
                theirs.log_softmax(-1), ours.log_softmax(-1), reduction="sum", log_target=True
            ).item()
            agreeing += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    count = sum(map(len, rows))
    fidelity = line(report, "nf4")["fidelity"]
    assert (fidelity["num_texts"], fidelity["num_tokens"]) == (12, count)
    assert fidelity["kl"] == pytest.approx(kl / count, rel=1e-4) and fidelity["kl"] > 0
    assert fidelity["agreement"] == pytest.approx(agreeing / count)
    low, high = fidelity["kl_interval"]
    assert low < fidelity["kl"] < high
    assert line(report, "none")["fidelity"]["kl"] == 0


def test_the_size_is_that_of_the_file_that_transformers_saves(reported, report, tmp_path):
    model, _ = load_model(reported.merged, quantization="nf4")
    model.save_pretrained(tmp_path / "saved")
    file = tmp_path / "saved" / "model.safetensors"
    header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    assert line(report, "nf4")["size_bytes"] == file.stat().st_size - header
    assert line(report, "nf4")["size_bytes"] < line(report, "int8")["size_bytes"]


@pytest.mark.slow
def test_speed_and_memory_are_measured_in_a_process_for_each_way():
    model = ModelConfig(path=str(PACKAGE / "toy" / "base"))
    missing = ModelConfig(path="nowhere")
    ways = {
        NumberFormat.none: (model, QuantizationConfig()),
        NumberFormat.nf4: (missing, QuantizationConfig()),
    }
    measured = alternate(ways, prompt_of([[5, 6, 7]], 64), 1)
    assert list(measured) == [NumberFormat.none]  # the other one is warned about
    speeds = measured[NumberFormat.none]
    assert speeds.prompt_tokens_per_second > speeds.decoded_tokens_per_second > 0
    assert speeds.peak_bytes > 2**26 and len(speeds.rounds) == 1


def test_probe_texts_are_spread_over_the_items_of_each_benchmark():
    configs = {name: workbench.load_benchmark(name, limit=19).config for name in NAMES}
    benchmarks = prepare_benchmarks(configs, EvaluateConfig())
    tokenizer = AutoTokenizer.from_pretrained(PACKAGE / "toy" / "base")
    every = probe_rows(benchmarks, tokenizer, 100, 128)
    assert probe_rows(benchmarks, tokenizer, 10, 128) == [
        every[2 * number + benchmark] for number in (0, 3, 7, 11, 15) for benchmark in (0, 1)
    ]


def test_a_prompt_has_256_tokens_or_half_of_the_context():
    assert len(prompt_of([[5, 6, 7]], None)) == len(prompt_of([[5, 6, 7]], 4096)) == 256
    assert prompt_of([[5, 6, 7]], 14) == [5, 6, 7, 5, 6, 7, 5]


def test_what_is_kept_of_the_gain_is_a_difference_of_differences_on_the_same_items(reported, report):
    gains = report["gains"]
    assert [(gain["benchmark"], gain["held_as"]) for gain in gains] == [
        (name, held_as) for name in NAMES for held_as in ("int8", "nf4")
    ]
    for gain in gains:
        values = {
            (model, held_as): answers(reported, model, held_as, gain["benchmark"])
            for model in ("base", "merged")
            for held_as in ("none", gain["held_as"])
        }
        whole = values["merged", "none"] - values["base", "none"]
        kept = values["merged", gain["held_as"]] - values["base", gain["held_as"]]
        assert gain["unquantized"]["difference"] == pytest.approx(whole.mean())
        assert gain["quantized"]["difference"] == pytest.approx(kept.mean())
        test = compare_paired(whole, kept, alpha=ERROR_RATES["pairs"] / 4)
        assert gain["change"]["difference"] == pytest.approx((kept - whole).mean())
        if not test.reason:
            assert gain["change"]["p_value"] == pytest.approx(test.p_value)
            assert gain["p_adjusted"] == pytest.approx(min(1.0, 4 * test.p_value))
        assert gain["sentence"].startswith(f"{gain['benchmark']}: of {100 * whole.mean():+.1f}")


def test_the_gain_is_over_the_base_as_the_adapter_was_trained_on_it(reported, tmp_path):
    for name in NAMES:
        predictions = read_predictions(reported.predictions("base", name))
        scored = [prediction.scores["acc"] for prediction in predictions]
        assert answers(reported, "base", "none", name).tolist() == scored
    base = PACKAGE / "toy" / "base"
    trained_on, _ = load_model(base, quantization="nf4")
    save_dequantized(trained_on, tmp_path / "base")
    whole, plain = load_model(tmp_path / "base", tokenizer=str(base))[0], load_model(base)[0]
    name = "model.layers.0.mlp.up_proj.weight"
    weight = plain.state_dict()[name]
    expected = dequantize_4bit(*quantize_4bit(weight, quant_type="nf4", compress_statistics=True))
    assert torch.equal(whole.state_dict()[name], expected) and not torch.equal(expected, weight)
    assert whole.state_dict().keys() == plain.state_dict().keys()


def test_the_tables_have_80_columns_and_the_files_hold_them(reported, report):
    text = reported.quantization_md.read_text()
    assert "| held as | size | KL a token | same token | prompt | decoded | memory |" in text
    for gain in report["gains"]:
        assert gain["sentence"].partition(": ")[2] in text
    picture = ElementTree.parse(reported.quantization_svg).getroot()
    words = [element.text for element in picture.iter() if element.tag.endswith("text")]
    assert words.count("nf4") == words.count("int8") == 2


def cached(folder):
    return {file.name: file.read_bytes() for file in (folder / "cache").rglob("*") if file.is_file()}


def test_a_finished_report_is_not_made_again_and_answers_are_kept(reported, run, caplog, tmp_path, capsys):
    shutil.copytree(reported.path, tmp_path / "run")
    asked = (*ASKED, "model.path=${toy:base}", "quantization=nf4", "run_dir=run", NO_SPEED)
    before = cached(tmp_path / "run")
    run("quantization-report", *asked, FORMATS.replace("]", ",fp4]"), "quantization_report.gain=false")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and any(line.startswith("fp4") for line in lines)
    assert [line["speed"] for line in read_json(RunDir(tmp_path / "run").quantization_json)["formats"]] == [
        None
    ] * 4
    after = cached(tmp_path / "run")
    assert before and before.items() < after.items()  # those of none, int8 and nf4 were not asked again
    assert len(after) == len(before) + 1  # fp4; equal rules of answering share a file
    run("quantization-report", *asked, FORMATS.replace("]", ",fp4]"), "quantization_report.gain=false")
    assert "quantization-report: already done" in caplog.text


def byte_model(folder, **fields):
    """A random LLaMA on disk with a tokenizer that GGUF files can hold."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["the thin theory"] * 9, trainer)
    names = dict(unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)
    config = LlamaConfig(
        vocab_size=len(tokenizer.get_vocab()), max_position_embeddings=256, initializer_range=0.15, **sizes
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_gguf_types_are_scored_and_their_files_deleted(run, tmp_path):
    run_dir = run(
        "quantization-report",
        f"model.path={byte_model(tmp_path / 'model')}",
        "benchmark=[toy_choice_en]",
        "benchmarks.toy_choice_en.limit=20",
        "quantization_report.formats=[q8_0,q4_0,f16]",
        "quantization_report.num_texts=12",
        "quantization_report.rounds=0",
        "run_dir=run",
    )
    lines = {line["held_as"]: line for line in read_json(run_dir.quantization_json)["formats"]}
    kl = {name: line["fidelity"]["kl"] for name, line in lines.items()}
    assert kl["none"] == 0 < kl["f16"] < kl["q8_0"] < kl["q4_0"]
    sizes = {name: line["size_bytes"] for name, line in lines.items()}
    assert sizes["none"] > sizes["f16"] > sizes["q8_0"] > sizes["q4_0"]
    assert sorted(folder.name for folder in run_dir.quantization.iterdir()) == ["base"]


@pytest.mark.parametrize("held_as", ["q4_0", "q8_0"])
def test_a_model_held_as_gguf_has_the_weights_that_the_file_holds(tmp_path, held_as):
    path = byte_model(tmp_path / "model")
    _, tokenizer = load_model(path)
    model = ModelConfig(path=str(path))
    whole = (model, QuantizationConfig())
    subject = Subject(name="base", model=model, whole=whole, tokenizer=tokenizer, identity={})
    with in_format(subject, NumberFormat[held_as], QuantizationConfig(), tmp_path) as how:
        stored = {
            tensor.name: torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
            for tensor in GGUFReader(how.model.path).tensors
        }
        weights = loading.load_model(how.model, how.quantization).state_dict()
    for name, gguf_name in (("mlp.down_proj", "ffn_down"), ("self_attn.v_proj", "attn_v")):
        assert torch.equal(weights[f"model.layers.1.{name}.weight"], stored[f"blk.1.{gguf_name}.weight"])
    assert not list(tmp_path.glob("*.gguf"))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ((), "^benchmark: none chosen"),
        ((*ASKED, "quantization=nf4"), "^quantization.method: 'nf4', but the report starts from the"),
        ((*ASKED, "quantization_report.formats=[nf4,nf4]"), "formats: 'nf4' is listed twice"),
    ],
)
def test_what_cannot_be_reported_is_refused_before_a_model_is_loaded(run, keys, words):
    with pytest.raises(ConfigError, match=words):
        run("quantization-report", "model.path=${toy:base}", *keys, "run_dir=run")


def test_a_native_model_has_no_gguf_types(run, tmp_path):
    path = byte_model(tmp_path / "model")
    asked = (f"model.path={path}", "model.architecture=native", *ASKED, "run_dir=run")
    with pytest.raises(ConfigError, match="only a checkpoint of Open-Llama or LLaMA can be exported"):
        run("quantization-report", *asked, "quantization_report.formats=[q8_0]")


def test_a_tokenizer_that_gguf_has_not_is_refused_if_a_type_is_chosen_and_else_left_out(run, caplog):
    asked = ("model.path=${toy:base}", *ASKED, "run_dir=run")
    with pytest.raises(CheckpointError, match="llama.cpp doesn't have the pre-tokenizer"):
        run("quantization-report", *asked, "quantization_report.formats=[nf4,q4_0]")
    run_dir = run("quantization-report", *asked, "quantization_report.rounds=0")
    assert "quantization-report: without GGUF: export.format: gguf: llama.cpp" in caplog.text
    held = [line["held_as"] for line in read_json(run_dir.quantization_json)["formats"]]
    assert held == ["none", "int8", "nf4", "fp4"]
