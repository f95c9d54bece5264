"""Each method of peft through the whole job: python peft_methods.py FOLDER [METHOD...]

Trains, merges and scores with each method on the toy model, then trains again with a kill and a resumption,
and prints what came out, as JSON. Each training is a fork, because an import of torch takes seconds.
"""

import json
import os
import shutil
import sys
import traceback
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.append(str(Path(__file__).parents[1] / "training"))
from interrupted import forked, journal, killed_before
from run_recipe import run_recipe

import workbench.toy
from workbench.config.adapter import AdapterMethod
from workbench.errors import WorkbenchError
from workbench.evaluation.records import read_results
from workbench.run_dir import RunDir, file_fingerprint, read_json
from workbench.training.callbacks import StepCallback

CASES = {
    "causal": ("quickstart", "quantization=none", "benchmark=[toy_choice_en]"),
    "classifier": ("quickstart-classifier", "quantization=none", "benchmark=[toy_reviews_en]"),
    "int8": ("quickstart", "quantization=int8", "benchmark=[toy_choice_en]"),
    "nf4": ("quickstart", "quantization=nf4", "benchmark=[toy_choice_en]"),
}
SHORT = (
    "train.max_steps=6",
    "train.warmup_steps=0",
    "train.logging_steps=1",
    "train.save_steps=2",
    "train.per_device_batch_size=4",
    "data.limit=16",
    "data.validation_fraction=0",
)
OPTIONS = {
    "adamss": {"num_subspaces": 2, "subspace_rank": 2, "r": 16},
    "beft": {},
    "c3a": {"block_size": 64},
    "fourierft": {"n_frequency": 200},
    "frod": {},
    "oft": {"oft_block_size": 16},
    "vblora": {"vector_length": 32, "num_vectors": 16},
    "vera": {"r": 16},
    "waveft": {"n_frequency": 200},
}
"""What the toy model is too small for peft's defaults of, or too large to be quick with."""
START = {"eva": ["adapter.method=lora", "adapter.init=eva", "adapter.rank=4"]}
"""Starts of a LoRA that are tried like a method."""
KILLED_AT = 5
RESUMED = ("causal", "classifier")
"""Cases that are also killed and resumed; the base of the others makes no difference to that."""


def settings(method: str, case: str) -> list[str]:
    """The overrides of a run."""
    options = [f"adapter.options.{name}={value}" for name, value in OPTIONS.get(method, {}).items()]
    chosen = START.get(method, [f"adapter.method={method}"])
    return [*CASES[case], *SHORT, *chosen, *options]


def biased_base(folder: Path) -> Path:
    """A random LLaMA with biases in all layers, and the toy model's tokenizer."""
    if not folder.exists():
        toy = Path(workbench.toy.__file__).parent / "base"
        shape = json.loads((toy / "config.json").read_text())
        names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        torch.manual_seed(0)
        config = LlamaConfig(
            **{name: shape[name] for name in names}, pad_token_id=0, attention_bias=True, mlp_bias=True
        )
        LlamaForCausalLM(config).save_pretrained(folder)
        for file in toy.glob("tokenizer*"):
            shutil.copy(file, folder)
    return folder


def run(folder: Path, method: str, case: str, *steps: str) -> None:
    """Run steps, and write the line of a refusal."""
    torch.set_num_threads(1)
    recipe, *overrides = settings(method, case)
    if method == "beft":
        overrides += [f"model.path={biased_base(folder.parents[1] / 'base')}", "model.architecture=native"]
    limits = ["benchmarks.toy_choice_en.limit=4"] if "toy_choice" in CASES[case][2] else []
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        run_recipe(recipe, *overrides, *limits, f"steps=[{','.join(steps)}]", f"run_dir={folder}")
    except WorkbenchError as error:
        folder.with_suffix(".refusal").write_text(str(error))
    except Exception:
        folder.with_suffix(".traceback").write_text(traceback.format_exc())
        raise


def outcome(folder: Path, method: str, case: str) -> dict[str, object]:
    """What came out of one method in one case."""
    through, killed = RunDir(folder / "through"), RunDir(folder / "killed")
    status = forked(lambda: run(through.path, method, case, "train", "merge", "evaluate"))
    for name in ("refusal", "traceback"):
        if (file := through.path.with_suffix(f".{name}")).is_file():
            return {name: file.read_text().strip(), "has_trained": through.adapter.exists()}
    report = read_json(through.merge_report)
    scores = {score.model: score.value for score in read_results(through.results_json)[1]}
    result = {
        "status": status,
        "proven": report["merged"]["largest"] <= report["merged"]["bound"],
        "kept": report["effect"]["kept"],
        "effect": report["effect"]["adapter_from_base"],
        "scores": scores,
    }
    if case not in RESUMED:
        return result
    plant = killed_before(StepCallback, "on_step_end", KILLED_AT)
    death = forked(lambda: (plant(), run(killed.path, method, case, "train")))
    again = forked(lambda: run(killed.path, method, case, "train"))
    same = file_fingerprint(through.adapter) == file_fingerprint(killed.adapter)
    is_resumed = same and journal(through.path) == journal(killed.path)
    return {**result, "statuses": [status, death, again], "resumed": is_resumed}


def main(folder: Path, methods: list[str]) -> dict[str, dict[str, dict[str, object]]]:
    """What came out of each method in each case."""
    found = {}
    cases = os.environ.get("CASES", ",".join(CASES)).split(",")
    everything = [*(method.name for method in AdapterMethod if method.name != "none"), *START]
    for method in methods or everything:
        found[method] = {case: outcome(folder / method / case, method, case) for case in cases}
        print(method, json.dumps(found[method]), file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]).resolve(), sys.argv[2:])))
