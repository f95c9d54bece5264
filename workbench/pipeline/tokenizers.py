"""The tokenizer of each model of a run, with the chat template that the model was trained with."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from workbench.config import Config
from workbench.models.adapters import adapter_config
from workbench.models.loading import load_tokenizer
from workbench.models.tokenizers.load_tokenizer import take_template
from workbench.pipeline.step_inputs import adapter_folder
from workbench.run_dir import RunDir


def tokenizer_for(name: str, config: Config, run_dir: RunDir) -> PreTrainedTokenizerBase:
    """The tokenizer of the base, adapter, merged or trained model.

    A base without a chat template is asked by that of the run, where `evaluate.chat_template` needs one.
    """
    tokenizer = load_tokenizer(config.model)
    template = (
        borrowed_template(config, run_dir) if name == "base" else trained_template(name, config, run_dir)
    )
    take_template(tokenizer, template)
    return tokenizer


def training_tokenizer(config: Config) -> PreTrainedTokenizerFast:
    """The tokenizer to train with: an adapter that is trained further keeps its chat template."""
    tokenizer = load_tokenizer(config.model)
    if config.adapter.path:
        take_template(tokenizer, adapter_config.chat_template(config.adapter.path))
    return tokenizer


def trained_template(name: str, config: Config, run_dir: RunDir) -> str | None:
    """The chat template beside the weights of a model of the run; None: none lies there."""
    adapter = adapter_folder(config, run_dir)
    folders: dict[str, Path | None] = {
        "adapter": adapter,
        "merged": run_dir.merged,
        "trained": run_dir.model,
    }
    folder = folders[name]
    if folder is None or (name != "adapter" and not folder.is_dir()):
        return None
    return adapter_config.chat_template(folder)


def borrowed_template(config: Config, run_dir: RunDir) -> str | None:
    """The run's chat template, where the base needs one and has none."""
    if not config.evaluate.chat_template or load_tokenizer(config.model).chat_template:
        return None
    found = (trained_template(name, config, run_dir) for name in ("adapter", "trained", "merged"))
    return next(filter(None, found), None)
