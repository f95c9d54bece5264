"""Loads the models of a chat: the base weights once, with the adapter enabled or disabled."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from workbench.api.loading import load_adapter
from workbench.config import QuantizationConfig
from workbench.config.benchmark import GenerationConfig
from workbench.config.names import ADAPTER, BASE, MERGED, MODELS, TRAINED
from workbench.contexts import evaluation_mode
from workbench.errors import MissingStepError
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.decoder import Decoder
from workbench.models.adapters import adapter_config, attach
from workbench.models.adapters.further import FIRST, add_further, select
from workbench.models.checkpoints.generation_config import end_at
from workbench.models.loading import load_model
from workbench.models.tokenizers.load_tokenizer import take_template
from workbench.pipeline.run_models import merge_fingerprint, model_in
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import adapter_folder, check_trained
from workbench.pipeline.tokenizers import tokenizer_for


class ChatModels:
    """The models of a run, each loaded on first use.

    `workbench.load_model` is not called because base and adapters share one load.
    """

    def __init__(self, run: Run, further: Mapping[str, str] | None = None) -> None:
        """Find out which models the run has, without loading one.

        Args:
            run: The run.
            further: Name -> folder or hub id of adapters on the same base, besides the run's own.

        Raises:
            CheckpointError: The run's own adapter was changed since it was trained.
        """
        self.run, self.config, self.run_dir = run, run.config, run.run_dir
        own = self.adapter = adapter_folder(run)
        self.adapters = {**({ADAPTER: str(own)} if own else {}), **(further or {})}
        present = {
            TRAINED: self.run_dir.model.is_dir(),
            ADAPTER: own is not None,
            MERGED: self.run_dir.merged.is_dir(),
            BASE: not self.config.model.init,
        }
        self.names = [*(name for name in present if present[name]), *(further or {})]
        """Names of the models: those that the run has, trained ones first, and further adapters."""
        self._decoders: dict[str, Decoder] = {}
        self._adapted: PeftModel | None = None
        self._adapter_names: dict[str, str] = {}
        """Name of each model whose adapter is in `_adapted` -> peft's name of the adapter."""

    @contextmanager
    def answering(self, name: str) -> Iterator[Decoder]:
        """Yield the decoder of the model `name`, in evaluation mode; the model is loaded on first use.

        Only one model may be used at a time: base and adapters share weights. The same decoder is yielded
        each time; its callback and limits stay as the last user set them.

        Raises:
            MissingStepError: The run doesn't have the model, or the merge was made from another adapter.
            WorkbenchError: The model can't be loaded.
        """
        if name not in self.names:
            names = ", ".join(self.names)
            raise MissingStepError(f"chat.models: the run has no {name} model (it has: {names})")
        if name not in self._decoders:
            self._load(name)
        decoder = self._decoders[name]
        with self._selected(name), evaluation_mode(decoder.lm.model):
            yield decoder

    def _selected(self, name: str) -> AbstractContextManager[None]:
        """Let the model's adapter compute, and no other; return a context in which the base has none."""
        if self._adapted is not None and name in self._adapter_names:
            select(self._adapted, self._adapter_names[name])
        if self._adapted is not None and name == BASE:
            return self._adapted.disable_adapter()
        return nullcontext()

    def _load(self, name: str) -> None:
        model, quantization = self.config.model, self.config.quantization
        set_seed(self.config.seed)  # so that a new model has the same weights each time
        if name == MERGED:
            if merge_fingerprint(self.adapter, self.run_dir) is None:
                raise MissingStepError(
                    f"{self.run_dir.merged}: was changed since the merge step, or made from an older adapter "
                    "(recipe=merge makes it again)"
                )
            self._add(name, load_model(model_in(self.run_dir.merged, model), QuantizationConfig()))
        elif name == TRAINED:
            check_trained(self.run_dir, self.run_dir.model)
            self._add(name, load_model(model_in(self.run_dir.model, model), quantization))
        elif name == BASE:
            self._add(name, load_model(model, quantization))
        elif adapter_config.changes_base(self.adapters[name]):  # a copy of the base weights
            adapted = load_adapter(load_model(model, quantization), self.adapters[name])
            self._add(name, attach.base_model(adapted))
        else:
            self._add_adapter(name, self.adapters[name])

    def _add_adapter(self, name: str, path: str) -> None:
        """Put an adapter on the base's weights, beside those that are there."""
        with self.answering(BASE) as base:
            model = base.lm.model
            ends = deepcopy(model.generation_config)
            del self._decoders[BASE]  # so that Ctrl-C leaves no base with half an adapter
            if self._adapted is None:
                adapted, peft_name = load_adapter(model, path), FIRST
            else:
                adapted, peft_name = self._adapted, f"further{len(self._adapter_names)}"
                add_further(adapted, peft_name, path)
                end_at(model, adapter_config.end_tokens(path))
            self._adapted = adapted
            self._adapter_names[name] = peft_name
            self._decoders[BASE] = base
        select(adapted, peft_name)
        self._add(name, model)
        model.generation_config = ends  # the next adapter's answers end at tokens of its own

    def _add(self, name: str, model: PreTrainedModel) -> None:
        """Create and store a decoder for a loaded model, with the chat's sampling settings.

        The decoder copies the model's end tokens.
        """
        chat = self.config.chat
        limits = GenerationConfig(stop=[], temperature=chat.temperature, top_k=chat.top_k, top_p=chat.top_p)
        with evaluation_mode(model):
            lm = TransformersLM(model, self._tokenizer(name), self.config.evaluate)
            self._decoders[name] = Decoder(lm, limits)

    def _tokenizer(self, name: str) -> PreTrainedTokenizerBase:
        """Return the tokenizer of a model, with the chat template of its training."""
        if name in MODELS:
            return tokenizer_for(name, self.run)
        tokenizer = self.run.tokenizer
        take_template(tokenizer, adapter_config.chat_template(self.adapters[name]))
        return tokenizer
