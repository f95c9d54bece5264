"""The peak of memory that `recipe=plan` foresees beside the one that the same training reaches.

    python tests/performance/plan.py FILE.gguf INSTRUCTIONS.jsonl LABELLED.jsonl

Nine settings, each the product's own command line for a few steps, which prints its plan first.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CAUSAL = ("data.max_length=512", "train.per_device_batch_size=8", "data.limit=400")
CLASSIFIER = ("model.task=sequence_classification", "data.max_length=128", "train.per_device_batch_size=16")
PACKED = ("data.max_length=512", "data.packing=true", "train.per_device_batch_size=2", "data.limit=400")
CHECKPOINTED = "train.gradient_checkpointing=true"
FLOAT32 = ("data.max_length=512", "train.per_device_batch_size=4", "data.limit=400", "model.dtype=float32")
SETTINGS = {
    "causal": CAUSAL,
    "causal, checkpointing": (*CAUSAL, CHECKPOINTED),
    "causal, nf4, packing": (*PACKED, "quantization=nf4"),
    "causal, int8": (*CAUSAL, "quantization=int8"),
    "causal, int8, checkpointing": (*CAUSAL, "quantization=int8", CHECKPOINTED),
    "causal, float32": FLOAT32,
    "causal, float32, checkpointing": (*FLOAT32, CHECKPOINTED),
    "classifier": CLASSIFIER,
    "classifier, nf4, checkpointing": (*CLASSIFIER, "quantization=nf4", CHECKPOINTED),
}


def gib(name: str, given: argparse.Namespace) -> tuple[float, float]:
    """Foreseen and reached."""
    data = given.labelled if name.startswith("classifier") else given.instructions
    with tempfile.TemporaryDirectory() as folder:
        line = [
            *(sys.executable, "-m", "workbench", "recipe=sft", "steps=[train]", f"run_dir={folder}/run"),
            *(f"model.path={given.model}", f"data.path={data}", f"train.max_steps={given.steps}"),
            *SETTINGS[name],
        ]
        out = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout
        foreseen = re.search(r"plan: ([\d.]+) of [\d.]+ GiB at the peak", out)
        assert foreseen, out
        record = json.loads((Path(folder) / "run/run.json").read_text())
    return float(foreseen[1]), record["train"]["peak_bytes"] / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="model.path")
    parser.add_argument("instructions", help="data.path of the causal model")
    parser.add_argument("labelled", help="data.path of the classifier")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="NAME")
    given = parser.parse_args()
    print(f"{'':32} {'foreseen':>8} {'reached':>8}  GiB")
    for name in given.settings:
        foreseen, reached = gib(name, given)
        print(f"{name:32} {foreseen:8.2f} {reached:8.2f}  {foreseen / reached - 1:+.0%}", flush=True)


if __name__ == "__main__":
    main()
