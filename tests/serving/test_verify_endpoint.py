"""An endpoint is compared with what was scored: the right one passes, planted faults are named."""

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from run_recipe import run_recipe
from serving_client import Served, language_model
from wrong_servers import Spoiled, right, unchanged

import workbench as wb
from workbench.config.benchmark import GenerationConfig
from workbench.config.data import DataConfig
from workbench.errors import ConfigError, DataError, EndpointError
from workbench.evaluation.inference.decoder import Decoder
from workbench.run_dir import RunDir, read_json
from workbench.shipped import PACKAGE

SHORT = (
    "quantization=none",
    "train.max_steps=8",
    "train.save_steps=8",
    "data.limit=300",
    "train.learning_rate=1e-2",
)
ITEMS = (
    "benchmark=[toy_choice_zh,toy_exact_en]",
    "benchmarks.toy_choice_zh.limit=12",
    "benchmarks.toy_exact_en.limit=6",
)
RUN = "runs/quickstart"


class Named:
    """Models by name; each may be another one than its name says."""

    def __init__(self, models: dict[str, Any]) -> None:
        self.names = list(models)
        self.lms = {name: language_model(*model) for name, model in models.items()}
        self.decoders = {name: Decoder(lm, GenerationConfig()) for name, lm in self.lms.items()}

    @contextmanager
    def answering(self, name: str):
        yield self.decoders[name]


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_recipe("quickstart", *SHORT, *ITEMS, "steps=[train,merge,evaluate]", "data.template=chatml")
    return folder


@pytest.fixture
def folder(scored, tmp_path, monkeypatch) -> Path:
    shutil.copytree(scored, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def verify(folder):
    """Verifies an endpoint against the run; returns the report."""

    def verify(url: str | None, *overrides: str) -> dict:
        options = (*SHORT, *ITEMS, "data.template=chatml", "endpoint.retries=0", "audit.items=18")
        address = [f"model.endpoint={url}"] if url else []
        run_recipe("quickstart", *options, "steps=[verify_endpoint]", *address, *overrides)
        return read_json(RunDir(Path(RUN)).verify_endpoint_json)

    return verify


@pytest.fixture
def serving():
    """Starts servers of models, some with a proxy in front that changes requests."""
    started: list[Any] = []

    def serving(template: str = "chatml", change=None, fails=None, **models: Any) -> str:
        named = Named(models)
        lengths = {name: lm.max_length for name, lm in named.lms.items()}
        started.append(Served(named, lengths, DataConfig(template=template)))
        url = started[-1].url
        if change is not None or fails is not None:
            started.append(Spoiled(started[-1].port, change or unchanged, right, fails))
            url = started[-1].url
        return url

    yield serving
    for server in reversed(started):
        server.stop()


def loaded(folder: Path, name: str, **settings):
    run = folder / RUN
    if name == "merged":
        return wb.load_model(run / "merged", **settings)
    adapter = {"adapter": run / "adapter"} if name == "adapter" else {}
    model, tokenizer = wb.load_model(PACKAGE / "toy" / "base", **adapter, **settings)
    return (model.get_base_model() if adapter else model), tokenizer


@pytest.mark.parametrize("name", ["base", "adapter", "merged"])
def test_the_model_that_was_scored_is_equal(folder, serving, verify, name):
    report = verify(serving(**{name: loaded(folder, name)}))
    assert report["equal"] and report["serves"] == name and report["faults"] == []
    assert report["gaps"]["largest"] < 1e-4 and report["gaps"]["num_likelihoods"] >= 20
    assert report["gaps"]["num_texts"] == 6 and report["gaps"]["num_other_texts"] == 0


def test_the_base_in_place_of_the_merged_model_is_named(folder, serving, verify):
    with pytest.raises(DataError, match="has the run's base, and not its merged"):
        verify(serving(merged=loaded(folder, "base")))


def test_equal_picks_prove_nothing(tmp_path, monkeypatch, serving):
    """After a weak training the base makes all picks of the merged model."""
    monkeypatch.chdir(tmp_path)
    options = (*SHORT[:-1], "train.learning_rate=3e-4", ITEMS[1], "benchmark=[toy_choice_zh]")
    options += ("data.template=chatml",)
    run_recipe("quickstart", *options, "steps=[train,merge,evaluate]")
    url = serving(merged=loaded(tmp_path, "base"))
    asked = (f"model.endpoint={url}", "endpoint.retries=0", "audit.items=12", "steps=[verify_endpoint]")
    with pytest.raises(DataError, match="12 of 12 answers are the same, which proves nothing"):
        run_recipe("quickstart", *options, *asked)
    report = read_json(RunDir(Path(RUN)).verify_endpoint_json)
    assert not report["equal"] and report["gaps"]["num_other_answers"] == 0
    assert report["gaps"]["mean"] > report["tolerance"] and "has the run's base" in report["faults"][-1]


def test_another_adapter_is_named(folder, serving, verify):
    model, tokenizer = loaded(folder, "adapter")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(weight.flip(0))
    with pytest.raises(DataError, match="other adapter"):
        verify(serving(adapter=(model, tokenizer)))


def test_other_weights_are_named(folder, serving, verify):
    model, tokenizer = loaded(folder, "merged")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "mlp" in name:
                weight.copy_(weight.flip(0) * 3)
    with pytest.raises(DataError, match="other weights"):
        verify(serving(merged=(model, tokenizer)))


def test_other_positions_are_named(folder, serving, verify):
    model, tokenizer = loaded(folder, "merged")
    model.model.rotary_emb.inv_freq.mul_(0.5)
    with pytest.raises(DataError, match="another rope"):
        verify(serving(merged=(model, tokenizer)))


def test_a_quantization_is_named(folder, serving, verify):
    for name in ("merged", "adapter"):
        with pytest.raises(DataError, match="holds the model in nf4"):
            verify(serving(**{name: loaded(folder, name, quantization="nf4")}))


def test_arithmetic_of_16_bits_is_not_called_other_weights(folder, serving, verify):
    with pytest.raises(DataError, match="quantization or arithmetic"):
        verify(serving(merged=loaded(folder, "merged", dtype="bfloat16")))


def test_a_second_beginning_token_is_named(folder, serving, verify):
    model, tokenizer = loaded(folder, "merged")

    def doubled(path: str, body: dict) -> dict:
        if isinstance(body.get("prompt"), str):
            return {**body, "prompt": [1, *tokenizer(body["prompt"])["input_ids"]]}
        return body

    with pytest.raises(DataError, match="beginning token"):
        verify(serving(merged=(model, tokenizer), change=doubled))


def test_another_template_is_named(folder, serving, verify):
    with pytest.raises(DataError, match="chat template"):
        verify(serving("alpaca", merged=loaded(folder, "merged")))


DRAWN = {"temperature": 1.5}
PENALTY = {"repetition_penalty": 1.8}


@pytest.mark.parametrize(
    ("defaults", "to_send"), [(DRAWN, "temperature=0)"), (PENALTY, "repetition_penalty=1, repeat_penalty=1)")]
)
def test_defaults_of_a_server_that_honours_what_is_sent_are_a_note(
    folder, serving, verify, defaults, to_send
):
    report = verify(serving(merged=loaded(folder, "merged"), change=lambda path, body: {**defaults, **body}))
    assert report["equal"] and report["faults"] == []
    (note,) = report["notes"]
    assert note.startswith("sampling defaults: ") and note.endswith(to_send)


def test_faithful_texts_of_a_server_as_llama_cpp_pythons_are_no_fault(folder, serving, verify):
    """It takes texts alone, tells no log-probabilities, and has a temperature and a penalty of its own."""

    def own_defaults(path: str, body: dict) -> dict:
        return {"temperature": 0.8, "repetition_penalty": 1.1, **body}

    model = loaded(folder, "merged")
    report = verify(serving(merged=model, change=own_defaults, fails=texts_only_without_logprobs))
    assert report["faults"] == [] and len(report["notes"]) == 1
    assert (report["gaps"]["num_texts"], report["gaps"]["num_other_texts"]) == (6, 0)


@pytest.mark.parametrize("forced", [DRAWN, PENALTY], ids=["drawn", "penalty"])
@pytest.mark.parametrize("tells", [True, False], ids=["logprobs", "texts"])
def test_sampling_that_is_applied_whatever_is_sent_is_named(folder, serving, verify, forced, tells):
    def ignores(path: str, body: dict) -> dict:
        return {**{key: value for key, value in body.items() if key != "seed"}, **forced}

    fails = None if tells else texts_only_without_logprobs
    reason = "sampling: |texts: " if not tells and forced is PENALTY else "sampling: "
    with pytest.raises(DataError, match=reason):
        verify(serving(merged=loaded(folder, "merged"), change=ignores, fails=fails))


def test_a_server_whose_echo_is_wrong_is_refused(folder, serving, verify):
    def without_echo(path: str, body: dict) -> dict:
        return {key: value for key, value in body.items() if key != "echo"}

    with pytest.raises(EndpointError, match="can't be scored by likelihood"):
        verify(serving(merged=loaded(folder, "merged"), change=without_echo))


def texts_only(body: dict) -> int | None:
    """Fails as llama-cpp-python's server does."""
    return 500 if not isinstance(body.get("prompt", ""), str) else None


def texts_only_without_logprobs(body: dict) -> int | None:
    return 500 if body.get("logprobs") else texts_only(body)


def test_where_no_token_ids_are_taken_texts_are_compared(folder, serving, verify):
    report = verify(serving(merged=loaded(folder, "merged"), fails=texts_only))
    assert report["faults"] == [] and report["left_out"] == ["toy_choice_zh"] and not report["equal"]
    assert (report["gaps"]["num_texts"], report["gaps"]["num_other_texts"]) == (6, 0)
    with pytest.raises(DataError, match="writes the texts of the run's base, and not its merged"):
        verify(serving(merged=loaded(folder, "base"), fails=texts_only))
    url = serving(merged=loaded(folder, "merged"), fails=texts_only)
    choices = (*SHORT, "benchmark=[toy_choice_zh]", ITEMS[1], f"model.endpoint={url}", "endpoint.retries=0")
    with pytest.raises(EndpointError, match="seems not to take token ids"):
        run_recipe("quickstart", *choices, "steps=[verify_endpoint]", "data.template=chatml")


def test_an_endpoint_and_a_scored_model_are_needed(folder, serving, verify):
    with pytest.raises(ConfigError, match="model.endpoint: not given"):
        verify(None)
    with pytest.raises(ConfigError, match="endpoint.serves: the run has no scores of 'trained'"):
        verify(serving(merged=loaded(folder, "merged")), "endpoint.serves=trained")
