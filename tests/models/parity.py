"""Replay of the recorded runs in tests/fixtures/parity: what was called, what came out, how far off it is."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaForCausalLM

from workbench.models import (
    OpenLlamaConfig,
    OpenLlamaForCausalLM,
    OpenLlamaForSequenceClassification,
    OpenLlamaModel,
)

FOLDER = Path(__file__).parents[1] / "fixtures" / "parity"
CLASSES = {
    cls.__name__: cls
    for cls in (OpenLlamaModel, OpenLlamaForCausalLM, OpenLlamaForSequenceClassification, LlamaForCausalLM)
}
NOT_HELD = ("known_reference_bug", "modern_divergence", "informational", "rng_sensitive")
PER_TOKEN = ("logits", "last_hidden_state", "hidden_states")  # (batch, seq, ...)
PER_HEAD = ("attentions", "past_key_values")  # (batch, heads, seq, ...)


@dataclass(frozen=True)
class Case:
    """One recorded model: how it was built and what it was given and gave."""

    name: str
    meta: dict[str, Any]
    config: dict[str, Any]
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    expected: dict[str, Tensor]

    def run_named(self, name: str) -> dict[str, Any]:
        return next(run for run in self.meta["runs"] if run["name"] == name)


@cache
def case(name: str) -> Case:
    folder = FOLDER / name
    meta, config = (json.loads((folder / f"{part}.json").read_text()) for part in ("meta", "config"))
    return Case(
        name, meta, config, *(load_file(folder / f"{p}.safetensors") for p in ("model", "inputs", "expected"))
    )


def names() -> list[str]:
    return sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir())


def runs(held: bool) -> list[tuple[str, str]]:
    """(case, run) of every run whose numbers we hold to, or of every other run."""
    return [
        (name, run["name"])
        for name in names()
        for run in case(name).meta["runs"]
        if held != any(tag in run for tag in NOT_HELD)
    ]


def load(case: Case, run: dict[str, Any], folder: Path, attention: str = "eager") -> Any:
    """A fresh model of the case through from_pretrained, the way users load one."""
    cls = CLASSES[run.get("class", case.meta["class"])]
    config = {**case.config, **run.get("config_overrides", {})}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(
        {key: value.clone() for key, value in case.weights.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    dtype = getattr(torch, run.get("dtype", case.meta["dtype"]))
    return cls.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention, **run.get("load_kwargs", {})
    )


def build(case: Case, run: dict[str, Any], attention: str = "eager") -> Any:
    """A fresh model of the case through load_state_dict and .to(dtype), as the runs were recorded."""
    config = OpenLlamaConfig(
        **{**case.config, **run.get("config_overrides", {})}, attn_implementation=attention
    )
    model = CLASSES[run.get("class", case.meta["class"])](config)
    model.load_state_dict(case.weights, strict=True)
    return model.to(getattr(torch, run.get("dtype", case.meta["dtype"])))


def replay(case: Case, run: dict[str, Any], model: Any) -> dict[str, Tensor]:
    """What `model` gives for the run, under the names of the expected tensors without the run's own."""
    model.train(run.get("mode", "eval") == "train")
    if "torch_seed" in run:
        torch.manual_seed(run["torch_seed"])
    with torch.set_grad_enabled("grads" in run):
        return {"calls": _calls, "generate": _generate, "tuple": _tuple}[run["kind"]](case, run, model)


def _calls(case: Case, run: dict[str, Any], model: Any) -> dict[str, Tensor]:
    found, outputs, past = {}, [], None
    for index, call in enumerate(run["calls"]):
        given = arguments(case, call) | call.get("kwargs", {})
        out = model(**given, **({"past_key_values": past} if call.get("use_past") else {}))
        past = out.get("past_key_values", past)
        outputs.append(out)
        prefix = f"c{index}." if len(run["calls"]) > 1 and not run.get("concat_logits") else ""
        for name in call.get("record", []):
            found |= _named(prefix + name, out[name])
    if run.get("concat_logits"):
        found["logits"] = torch.cat([out.logits for out in outputs], 1)
    if "grads" in run:
        by_probe = run.get("loss", "output") != "output"
        loss = (out.last_hidden_state * case.inputs[run["loss"]]).sum() if by_probe else out.loss
        loss.backward()
        found["backward_loss"] = loss
        found |= {f"grad.{name}": model.get_parameter(name).grad for name in run["grads"]}
    return found


def _generate(case: Case, run: dict[str, Any], model: Any) -> dict[str, Tensor]:
    return {"sequences": model.generate(**arguments(case, run), **run["kwargs"])}


def _tuple(case: Case, run: dict[str, Any], model: Any) -> dict[str, Tensor]:
    return _named("t", model(**arguments(case, run), **run["kwargs"]))


def arguments(case: Case, call: dict[str, Any]) -> dict[str, Tensor]:
    return {name: _slice(case.inputs, ref) for name, ref in call.get("inputs", {}).items()}


def _slice(tensors: dict[str, Tensor], ref: str | dict[str, Any]) -> Tensor:
    if isinstance(ref, str):
        return tensors[ref]
    rows, columns = (slice(*ref.get(axis, (None,))) for axis in ("rows", "cols"))
    return tensors[ref["key"]][rows, columns]


def _named(name: str, value: Any) -> dict[str, Tensor]:
    """Every tensor of a nested output with a name that tells where it was; a cache layer by layer."""
    if torch.is_tensor(value):
        return {name: value.detach()}
    if hasattr(value, "layers"):
        pairs = [(layer.keys, layer.values) for layer in value.layers]
        value = pairs if name.startswith("t") else [{"key": key, "value": val} for key, val in pairs]
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    return {key: tensor for part, inner in parts for key, tensor in _named(f"{name}.{part}", inner).items()}


def differences(case: Case, run: dict[str, Any], found: dict[str, Tensor]) -> dict[str, str]:
    """What lies outside the tolerance, by name: empty when the run is reproduced."""
    wrong = {}
    for key in run["expected"]:
        name = key.removeprefix(run["name"] + ".")
        if name not in found:
            wrong[name] = "missing"
            continue
        want, have = (_compared(case, run, name, tensor) for tensor in (case.expected[key], found[name]))
        bound = run["tolerance"]["grad" if name.startswith("grad.") else "value"]
        if want.shape != have.shape:
            wrong[name] = f"shape {tuple(have.shape)}, not {tuple(want.shape)}"
        elif not torch.allclose(have.double(), want.double(), **bound, equal_nan=True):
            wrong[name] = f"off by up to {(have.double() - want.double()).abs().max():.2e}"
    if run["kind"] == "tuple" and (shapes := {k: list(v.shape) for k, v in found.items()}) != _shapes(
        run["layout"]
    ):
        wrong["layout"] = f"{shapes}"
    return wrong


def _shapes(layout: Any, name: str = "t") -> dict[str, list[int]]:
    """The shape of every tensor of a nested tuple, by the names of `_named`."""
    if isinstance(layout, list):
        return {name: layout}
    parts = enumerate(layout["tuple"])
    return {key: shape for part, inner in parts for key, shape in _shapes(inner, f"{name}.{part}").items()}


def _compared(case: Case, run: dict[str, Any], name: str, tensor: Tensor) -> Tensor:
    """Only the real positions, where the run has pads in front: those attend to nothing."""
    kind = next((part for part in name.split(".") if part in PER_TOKEN + PER_HEAD), None)
    if "compare_where" not in run or kind is None:
        return tensor
    real = case.inputs[run["compare_where"]].bool()
    return (tensor if kind in PER_TOKEN else tensor.transpose(1, 2))[real]
