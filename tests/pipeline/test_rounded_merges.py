"""A real adapter of ten steps, merged in bfloat16: figures and verdicts against a computation by hand.

The hand reads the folders alone: matrix products in float64 by numpy, the models by transformers and peft.
"""

import json
import re
import shutil
from typing import NamedTuple

import numpy as np
import pytest
import torch
from peft import PeftModel
from run_recipe import run_recipe
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from workbench.errors import CheckpointError
from workbench.models.merging.merge import SENTENCES
from workbench.run_dir import RunDir

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

TRAINED = (
    "quantization=none",
    "model.path=base",
    "train.max_steps=10",
    "train.learning_rate=2e-4",
    "train.warmup_steps=0",
)
SCALES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 1.0)


class Figures(NamedTuple):
    """What rounding leaves of an adapter: in the weights (p, cosine, e) and on the texts (P, r)."""

    projection: float
    cosine: float
    error: float
    kept: float
    probe_error: float

    @property
    def verdict(self):
        """The bounds as they are documented."""
        if self.kept < 0.5 or self.probe_error >= 1:
            return "refused"
        return "warned" if self.kept < 0.9 or self.probe_error > 0.5 else "passes"


@pytest.fixture(scope="module")
def folders(run_once):
    """The toy model as a LLaMA in bfloat16, and an adapter after ten steps on it."""

    def prepare(folder):
        plain = ("export.format=llama", "export.dtype=bfloat16", "export.path=base")
        run_recipe("export", "model.path=${toy:base}", *plain, "run_dir=exported")

    folder = run_once(prepare, "quickstart", *TRAINED, "steps=[train]", "run_dir=trained", "benchmark=[]")
    return folder / "base", RunDir(folder / "trained").adapter


def scaled(adapter, scale, folder):
    """A copy of the adapter with its B times `scale`."""
    shutil.copytree(adapter, folder)
    file = folder / "adapter_model.safetensors"
    save_file(
        {name: t * scale if "lora_B" in name else t for name, t in load_file(file).items()},
        file,
        {"format": "pt"},
    )
    return folder


def summed(base, adapter):
    """Weight name -> (W, D) in float64 of the weights that the adapter changes."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    tensors = {n: t.double().numpy() for n, t in load_file(adapter / "adapter_model.safetensors").items()}
    pairs = {}
    for name, weight in load_file(base / "model.safetensors").items():
        key = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        if f"{key}A.weight" in tensors:
            delta = tensors[f"{key}B.weight"] @ tensors[f"{key}A.weight"]
            pairs[name] = weight.double().numpy(), delta * config["lora_alpha"] / config["r"]
    return pairs


def rounded(base, adapter, folder):
    """The folder of a merge by hand: the sums in float64, rounded once to bfloat16."""
    shutil.copytree(base, folder)
    tensors = load_file(base / "model.safetensors")
    tensors |= {n: torch.from_numpy(w + d).bfloat16() for n, (w, d) in summed(base, adapter).items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@torch.no_grad()
def log_probabilities(folder, adapter=None):
    """Centred logits (positions, vocabulary) of a folder, computed in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = (model if adapter is None else PeftModel.from_pretrained(model, adapter)).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in SENTENCES]
    logits = torch.cat(rows).double().numpy()
    return logits - logits.mean(-1, keepdims=True)


def by_hand(base, adapter, merged):
    """The figures of a merged folder."""
    stored, pairs = load_file(merged / "model.safetensors"), summed(base, adapter)
    d = np.concatenate([delta.ravel() for _, delta in pairs.values()])
    a = np.concatenate([(stored[n].double().numpy() - w).ravel() for n, (w, _) in pairs.items()])
    b, m = log_probabilities(base), log_probabilities(merged)
    effect = log_probabilities(base, adapter) - b
    return Figures(
        projection=a @ d / (d @ d),
        cosine=a @ d / np.sqrt((a @ a) * (d @ d)),
        error=np.linalg.norm(a - d) / np.linalg.norm(d),
        kept=((m - b) * effect).sum() / (effect**2).sum(),
        probe_error=np.linalg.norm(m - b - effect) / np.linalg.norm(effect),
    )


def merged(run, base, adapter, *overrides):
    return run("merge", f"model.path={base}", f"adapter.path={adapter}", *overrides)


def test_an_adapter_of_ten_steps_is_published_with_the_figures_of_a_hand(run, folders, tmp_path):
    base, adapter = folders
    run_dir = merged(run, base, adapter)
    report = json.loads(run_dir.merge_report.read_text())
    assert report["dtype"] == "bfloat16"
    figures = by_hand(base, adapter, run_dir.merged)
    for name in ("projection", "cosine", "error"):
        assert report["weights"][name] == pytest.approx(getattr(figures, name), rel=1e-4), name
    assert report["effect"]["kept"] == pytest.approx(figures.kept, rel=1e-3)
    assert report["effect"]["error"] == pytest.approx(figures.probe_error, rel=1e-3)
    assert figures.verdict == "passes" and 0.001 < report["weights"]["relative_size"] < 0.02
    assert figures.error > 0.1  # rounding is visible
    ours = load_file(run_dir.merged / "model.safetensors")
    for name, tensor in load_file(rounded(base, adapter, tmp_path / "hand") / "model.safetensors").items():
        assert (ours[name] != tensor).double().mean() < 1e-3, name  # the float32 sum ties to other sides


def test_a_hundredth_of_it_is_refused_with_the_figures_of_a_hand(run, folders, tmp_path):
    base, adapter = folders
    small = scaled(adapter, 0.01, tmp_path / "small")
    figures = by_hand(base, small, rounded(base, small, tmp_path / "hand"))
    assert figures.verdict == "refused" and figures.projection < 0.5
    with pytest.raises(CheckpointError, match="rounding to bfloat16 erases the adapter") as caught:
        merged(run, base, small, "run_dir=erased")
    assert "merge.dtype=float32 keeps it" in str(caught.value) and "\n" not in str(caught.value)
    shares = [float(text) for text in re.findall(r"(-?[\d.]+)%", str(caught.value))]
    assert shares == pytest.approx([100 * figures.kept, 100 * figures.probe_error], abs=0.6)
    assert not RunDir(tmp_path / "erased").merged.exists()
    whole = merged(run, base, small, "run_dir=whole", "merge.dtype=float32")
    assert json.loads(whole.merge_report.read_text())["effect"]["kept"] == pytest.approx(1, abs=1e-2)


def test_a_sweep_of_scales_is_judged_as_the_bounds_say(run, folders, tmp_path, caplog):
    base, adapter = folders
    verdicts, expected = [], []
    for scale in SCALES:
        sized = scaled(adapter, scale, tmp_path / f"adapter-{scale}")
        expected.append(by_hand(base, sized, rounded(base, sized, tmp_path / f"hand-{scale}")).verdict)
        caplog.clear()
        try:
            merged(run, base, sized, f"run_dir=merged-{scale}")
        except CheckpointError as refusal:
            assert "erases" in str(refusal) or "does nothing" in str(refusal)
            verdicts.append("refused")
        else:
            verdicts.append("warned" if "weakens the adapter" in caplog.text else "passes")
    assert verdicts == expected
    assert verdicts[0] == "refused" and verdicts[-1] == "passes"
    order = ["refused", "warned", "passes"]
    assert verdicts == sorted(verdicts, key=order.index)  # one boundary each
