"""The tokenizer of each model of a run, with the chat template that the model was trained with."""

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from workbench.config.names import ADAPTER, BASE, MERGED, TRAINED
from workbench.models.adapters import adapter_config
from workbench.models.tokenizers.load_tokenizer import take_template
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import model_folder


def tokenizer_for(name: str, run: Run) -> PreTrainedTokenizerBase:
    """The tokenizer of the base, adapter, merged or trained model.

    A base without a chat template is asked by that of the run, where `evaluate.chat_template` needs one.
    """
    tokenizer = run.tokenizer
    take_template(tokenizer, borrowed_template(run) if name == BASE else trained_template(name, run))
    return tokenizer


def training_tokenizer(run: Run) -> PreTrainedTokenizerFast:
    """The tokenizer to train with: an adapter that is trained further keeps its chat template."""
    tokenizer = run.tokenizer
    if run.config.adapter.path:
        take_template(tokenizer, adapter_config.chat_template(run.config.adapter.path))
    return tokenizer


def trained_template(name: str, run: Run) -> str | None:
    """The chat template beside the weights of a model of the run; None: none lies there."""
    folder = model_folder(name, run)
    return adapter_config.chat_template(folder) if folder else None


def borrowed_template(run: Run) -> str | None:
    """The run's chat template, where the base needs one and has none."""
    if not run.config.evaluate.chat_template or run.tokenizer.chat_template:
        return None
    found = (trained_template(name, run) for name in (ADAPTER, TRAINED, MERGED))
    return next(filter(None, found), None)
