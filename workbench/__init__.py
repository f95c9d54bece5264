"""Quantize, LoRA-tune, merge and score Open-Llama models on Chinese and English benchmarks.

Importing this package is cheap: the functions and model classes below, and torch, are imported on first use.
`workbench.api` lists the functions.
"""

import os
import sys

try:
    _folder = os.getcwd()
except FileNotFoundError:
    _folder = ""  # deleted; the command line reports it

if sys.argv[:1] == ["-m"] and "workbench" in sys.orig_argv[2:] and sys.path[:1] == [_folder]:
    # `python -m workbench`: Python searches the current folder first, so that a user's evaluate.py or
    # random.py would be imported instead of a package. It is searched last, and only if it is the checkout.
    del sys.path[0]
    if os.path.dirname(os.path.dirname(os.path.abspath(__file__))) == _folder:
        sys.path.append(_folder)

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.api.benchmarks import load_benchmark
    from workbench.api.combining import combine
    from workbench.api.evaluation import evaluate
    from workbench.api.finetuning import finetune
    from workbench.api.loading import load_model
    from workbench.api.merging import merge
    from workbench.leaderboard.compare_results import compare
    from workbench.models.open_llama import (
        OpenLlamaConfig,
        OpenLlamaForCausalLM,
        OpenLlamaForSequenceClassification,
        OpenLlamaModel,
    )

__version__ = "0.1.0"

# bitsandbytes warns on import that an optional kernel is missing, which models/quantization.py switches off
# anyway. peft imports bitsandbytes, so this package must be imported before peft.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: not record.getMessage().startswith("Failed to load CPU gemm_4bit_forward")
)

__all__ = [
    "OpenLlamaConfig",
    "OpenLlamaForCausalLM",
    "OpenLlamaForSequenceClassification",
    "OpenLlamaModel",
    "__version__",
    "combine",
    "compare",
    "evaluate",
    "finetune",
    "load_benchmark",
    "load_model",
    "merge",
]

_MODULES = {
    "combine": "workbench.api.combining",
    "compare": "workbench.leaderboard.compare_results",
    "evaluate": "workbench.api.evaluation",
    "finetune": "workbench.api.finetuning",
    "load_benchmark": "workbench.api.benchmarks",
    "load_model": "workbench.api.loading",
    "merge": "workbench.api.merging",
    **{name: "workbench.models" for name in __all__ if name.startswith("OpenLlama")},
}
"""Name -> the module that defines it, imported on first use."""


def __getattr__(name: str) -> Any:
    """Import a function or model class of `__all__` when it is first accessed (PEP 562)."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
