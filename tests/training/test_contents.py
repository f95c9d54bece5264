"""Checkpoints whose files and manifest were both written again: each checksum is right."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_fit import same, settings, weights
from tiny_training import causal_rows, load, load_with_lora, tiny_tokenizer
from transformers import MixtralConfig, MixtralForCausalLM

from workbench.config.train import Keep
from workbench.run_dir import read_json
from workbench.training.checkpoint_checks.content import weight_problem
from workbench.training.fit import fit
from workbench.training.resume import write_manifest

ROWS = causal_rows(12)
MODELS = {"adapter": load_with_lora, "model": load}


def trained(base, folder, kind="adapter"):
    """The model after four steps, and the report."""
    model = MODELS[kind](base)
    train = settings(max_steps=4, save_steps=2, logging_steps=1)
    return model, fit(model, tiny_tokenizer(), ROWS, None, train, folder, 7)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, base):
    """A training of an adapter and one of a model, each with a checkpoint at step 2 and at step 4."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, {kind: weights(trained(base, folder / kind, kind)[0]) for kind in MODELS}


def pickled(change):
    """A damage of a file of tensors."""

    def damage(path):
        value = torch.load(path, weights_only=False)
        other = change(value)
        torch.save(other if isinstance(other, list | int) else value, path)

    return damage


def written(change):
    """A damage of a JSON file."""

    def damage(path):
        value = read_json(path)
        change(value)
        path.write_text(json.dumps(value))

    return damage


def stored(change):
    """A damage of a file of weights."""

    def damage(path):
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return damage


class Foreign:
    def __reduce__(self):
        return os.system, ("touch foreign_code_was_here",)


def first(mapping):
    return next(iter(mapping))


DAMAGES = {
    "optimizer.pt": [
        (pickled(lambda value: ["no", "optimizer"]), "optimizer.pt is not the state of an optimizer"),
        (pickled(lambda value: value["param_groups"].pop()), "param_groups is .* (expected a list of 2)"),
        (pickled(lambda value: value["param_groups"][0].update(params=[0])), "params is [0] (expected"),
        (pickled(lambda value: value["param_groups"][0].update(lr="high")), "lr is 'high' (expected 0 to"),
        (pickled(lambda value: value["param_groups"][0].update(betas=0.9)), "betas is 0.9 (expected"),
        (pickled(lambda value: value["param_groups"][0].update(fused="x")), "fused is 'x' (expected true"),
        (
            pickled(lambda value: value["state"].update({99: {}})),
            "parameter 99 does not exist (there are 28)",
        ),
        (
            pickled(lambda value: value["state"][3].update(exp_avg=torch.zeros(2, 2))),
            "parameter 3: exp_avg is [2, 2] of float32 (expected floats of shape [16, 4])",
        ),
        (pickled(lambda value: value["state"][3].pop("exp_avg_sq")), "exp_avg_sq is None (expected a tensor"),
        (pickled(lambda value: value["state"][3].update(step="two")), "step is 'two' (expected a step count"),
        (lambda path: path.write_bytes(b"PK no archive"), "optimizer.pt: truncated"),
        (lambda path: path.unlink(), "optimizer.pt is missing"),
    ],
    "scheduler.pt": [
        (pickled(lambda value: 3), "scheduler.pt is not the state of a scheduler"),
        (pickled(lambda value: value.update(step=1)), "'step' is not part of a scheduler's state"),
        (
            pickled(lambda value: value.update(last_epoch="two")),
            "last_epoch is 'two' (expected a int)",
        ),
        (pickled(lambda value: value.update(last_epoch=9)), "last_epoch is 9 (expected 0 to 4)"),
        (pickled(lambda value: value.update(base_lrs=[1.0])), "base_lrs is [1.0] (expected [0.01, 0.01])"),
        (pickled(lambda value: value.update(lr_lambdas=[{}, 3])), "lr_lambdas is [{}, 3] (expected"),
        (pickled(lambda value: value.update(_last_lr=["a", "b"])), "_last_lr is ['a', 'b'] (expected 2"),
    ],
    "rng_state.pth": [
        (
            lambda path: torch.save({"python": Foreign()}, path),
            "rng_state.pth: the pickle contains",
        ),
        (pickled(lambda value: value.update(python=(1, 2))), "'python' is not the state of a random"),
        (pickled(lambda value: value.update(numpy=[])), "'numpy' is not the state of a random"),
        (pickled(lambda value: value.update(cpu=torch.zeros(3))), "'cpu' is not the state of a random"),
        (lambda path: path.unlink(), "rng_state.pth is missing"),
    ],
    "scaler.pt": [(lambda path: torch.save({"scale": 1.0}, path), "scaler.pt: the losses of this")],
    "trainer_state.json": [
        (lambda path: path.write_text("[1]"), "trainer_state.json is damaged"),
        (written(lambda value: value.update(global_step=3)), "global_step is 3 (expected 4)"),
        (written(lambda value: value.update(max_steps="four")), "max_steps is 'four' (expected a number)"),
        (written(lambda value: value.update(epoch=10**400)), "epoch is 1000"),
        (written(lambda value: value.update(best_model_checkpoint=[1])), "best_model_checkpoint is [1]"),
        (written(lambda value: value.update(extra=1)), "'extra' is not a field of the Trainer's state"),
        (written(lambda value: value.update(stateful_callbacks={})), "stateful_callbacks is {} (expected"),
        (written(lambda value: value.update(log_history={})), "log_history is {} (expected a list)"),
        (written(lambda value: value["log_history"].append(7)), "log_history[4] is 7 (expected an object)"),
        (
            written(lambda value: value["log_history"][1].update(loss="low")),
            "log_history[1]: 'loss' is",
        ),
        (
            written(lambda value: value["log_history"][1].pop("step")),
            "log_history[1]: step is None (exp",
        ),
        (written(lambda value: value["log_history"].clear()), "log_history has no loss"),
    ],
    "manifest.json": [
        (written(lambda value: value["meter"].update(tokens="many")), "manifest.json is damaged"),
        (written(lambda value: value["meter"].update(losses=["low"])), "manifest.json is damaged"),
    ],
}
WEIGHTS = {
    "adapter": "adapter_model.safetensors",
    "model": "model.safetensors",
}
WEIGHT_DAMAGES = [
    (stored(lambda value: value.pop(first(value))), "is missing"),
    (stored(lambda value: value.update({first(value): torch.zeros(3)})), "is [3] of float32 (expected ["),
    (
        stored(lambda value: value.update({first(value): value[first(value)].to(torch.int8)})),
        "of int8 (expected [",
    ),
    (stored(lambda value: value.update(foreign=torch.zeros(3))), "'foreign' is not a weight of this model"),
    (lambda path: path.write_bytes(b"nothing"), "is damaged"),
    (lambda path: path.unlink(), "is missing"),
]


def rewritten(finished, folder, kind, name, damage):
    """A training whose newest checkpoint is damaged, by a manifest that says it is as it was written."""
    shutil.copytree(finished[0] / kind, folder)
    checkpoint = folder / "checkpoints" / "checkpoint-4"
    manifest = read_json(checkpoint / "manifest.json")
    if name == "manifest.json":
        damage(checkpoint / name)
        manifest = read_json(checkpoint / name)
    else:
        damage(checkpoint / name)
    write_manifest(
        checkpoint, 4, manifest["identity"], manifest["meter"], is_final=name == "trainer_state.json"
    )


@pytest.mark.parametrize(
    ("kind", "name", "damage", "words"),
    [
        *(("adapter", name, *case) for name, cases in DAMAGES.items() for case in cases),
        *((kind, name, *case) for kind, name in WEIGHTS.items() for case in WEIGHT_DAMAGES),
        (
            "model",
            "adapter_model.safetensors",
            lambda path: path.write_bytes(b""),
            "model.safetensors h",
        ),
        (
            "adapter",
            "model.safetensors",
            lambda path: path.write_bytes(b""),
            "model.safetensors holds",
        ),
        (
            "adapter",
            "pytorch_model.bin",
            lambda path: path.write_bytes(b""),
            "pytorch_model.bin holds",
        ),
    ],
)
def test_a_checkpoint_written_again_with_its_manifest_is_named_and_the_one_before_it_is_taken(
    finished, base, tmp_path, caplog, kind, name, damage, words
):
    rewritten(finished, tmp_path / "run", kind, name, damage)
    model, report = trained(base, tmp_path / "run", kind)
    [line] = [record.getMessage() for record in caplog.records if "; deleted" in record.getMessage()]
    parts = words.split(".*")
    assert "checkpoint-4: " in line and all(part in line for part in parts), line
    assert report.resumed_from == 2
    assert same(weights(model), finished[1][kind])


@pytest.mark.parametrize("kind", MODELS)
def test_a_sound_checkpoint_is_gone_on_from_and_a_final_one_is_loaded(finished, base, tmp_path, caplog, kind):
    shutil.copytree(finished[0] / kind, tmp_path / "run")
    model, report = trained(base, tmp_path / "run", kind)
    assert report.resumed_from == 4 and same(weights(model), finished[1][kind])
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-4")
    model, report = trained(base, tmp_path / "run", kind)
    assert report.resumed_from == 2 and same(weights(model), finished[1][kind])
    assert "; deleted" not in caplog.text


def test_a_pickle_with_foreign_code_is_never_executed(finished, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        rewritten(finished, tmp_path / name, "adapter", name, lambda path: torch.save(Foreign(), path))
        assert trained(base, tmp_path / name)[1].resumed_from == 2
    assert not (tmp_path / "foreign_code_was_here").exists()


def test_weights_that_do_not_fit_are_not_taken_for_the_best(finished, base, tmp_path, caplog):
    train = settings(max_steps=4, save_steps=2, logging_steps=1, keep=Keep.best)
    scores = iter([{"score": 0.9}, {"score": 0.1}])
    run = tmp_path / "run"
    how = {"score": lambda model: next(scores)}
    fit(load_with_lora(base), tiny_tokenizer(), ROWS, None, train, run, 7, **how)
    best = run / "checkpoints" / "checkpoint-2"
    stored(lambda value: value.update({first(value): torch.zeros(3)}))(best / WEIGHTS["adapter"])
    manifest = read_json(best / "manifest.json")
    write_manifest(best, 2, manifest["identity"], manifest["meter"], is_final=False)
    report = fit(load_with_lora(base), tiny_tokenizer(), ROWS, None, train, run, 7, **how)
    assert report.kept_step == 4 and "the model keeps the last step's weights, not the best" in caplog.text


def test_a_model_of_experts_whose_file_has_other_names_is_not_taken_for_damaged(tmp_path):
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_local_experts": 2}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    model = MixtralForCausalLM(MixtralConfig(**sizes, **layers))
    model.save_pretrained(tmp_path)
    assert not load_file(tmp_path / "model.safetensors").keys() <= model.state_dict().keys()
    assert weight_problem(tmp_path, model) is None
