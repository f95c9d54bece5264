"""Tokenizers of a run's models, each with the chat template that its model was trained with."""

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from workbench.config.evaluate import uses_chat_template
from workbench.config.names import ADAPTER, BASE, MERGED, TRAINED
from workbench.models.adapters import adapter_config
from workbench.models.tokenizers.load_tokenizer import take_template
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import model_folder


def tokenizer_for(name: str, run: Run) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the model `name` (base, adapter, merged or trained), with its chat template.

    If prompts take a chat template, a base without a template gets that of `borrowed_template`. The object
    is a copy whose template the caller may change.
    """
    tokenizer = run.tokenizer
    take_template(tokenizer, borrowed_template(run) if name == BASE else trained_template(name, run))
    return tokenizer


def training_tokenizer(run: Run) -> PreTrainedTokenizerFast:
    """Return a copy of the run's tokenizer with the chat template of `adapter.path`, if that has one.

    Raises:
        CheckpointError: There is nothing at `adapter.path`, or its chat template isn't UTF-8.
    """
    tokenizer = run.tokenizer
    if run.config.adapter.path:
        take_template(tokenizer, adapter_config.chat_template(run.config.adapter.path))
    return tokenizer


def trained_template(name: str, run: Run) -> str | None:
    """Return the chat template saved with the weights of a model of the run; None: no model, or no template.

    `name` is adapter, merged or trained.

    Raises:
        CheckpointError: The run's own adapter was changed, or the chat template isn't UTF-8.
    """
    folder = model_folder(name, run)
    return adapter_config.chat_template(folder) if folder else None


def borrowed_template(run: Run) -> str | None:
    """Return a chat template for a base without one: that of the run's adapter, trained or merged model.

    None if the base has a template, or if no prompt takes a chat template.
    """
    in_chat = uses_chat_template(run.config.evaluate, run.config.benchmarks.values())
    if not in_chat or run.tokenizer.chat_template:
        return None
    templates = (trained_template(name, run) for name in (ADAPTER, TRAINED, MERGED))
    return next(filter(None, templates), None)
