"""Adapts a loaded model to lm-evaluation-harness: this engine answers its three types of requests.

    lm = HarnessLM(TransformersLM(model.eval(), tokenizer, EvaluateConfig()))
    lm_eval.simple_evaluate(model=lm, tasks=["hellaswag"])

Import this module only if the harness is installed.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from itertools import groupby
from typing import Any

from lm_eval.api.model import LM

from workbench.config.benchmark import GenerationConfig
from workbench.data.templating.render import RenderingError, chat_text
from workbench.errors import DataError
from workbench.evaluation import answer_loop
from workbench.evaluation.answer_cache import AnswerCache
from workbench.evaluation.endpoint.kept_answers import endpoint_check
from workbench.evaluation.harness.limits import limits
from workbench.evaluation.inference.encoding import refuse_empty
from workbench.evaluation.inference.language_model import LanguageModel
from workbench.evaluation.inference.not_numbers import not_numbers
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.evaluation.records import Answer, prompt_hash
from workbench.evaluation.tasks.generation import decoder_for
from workbench.evaluation.tasks.multiple_choice import by_item
from workbench.evaluation.tasks.perplexity import Perplexity
from workbench.evaluation.tasks.thinking import texts

Answers = Iterator[tuple[int, Answer]]


class HarnessLM(LM):  # type: ignore[misc]
    """Causal language model of this project with the interface of lm-evaluation-harness.

    Prompts that are too long are truncated at the start, as in the harness; `num_cut` counts them.
    """

    def __init__(
        self,
        lm: LanguageModel,
        cache: AnswerCache | None = None,
        title: str = "lm-eval",
        seed: int = 1234,
        samples: Mapping[str, Sequence[int]] | None = None,
        template_arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            lm: model and tokenizer.
            cache: cached answers, to which new answers are added; None: they are kept in memory.
            title: title of the progress bar.
            seed: seed of sampled answers, together with task, item and repeat.
            samples: task -> indices of the selected rows, if they aren't the first rows.
            template_arguments: further variables of the chat template.
        """
        super().__init__()
        self.template_arguments = template_arguments
        self.lm = lm
        self.answer_cache = cache if cache is not None else AnswerCache(None, "", None)
        self.title = title
        self.seed = seed
        self.samples = samples or {}
        self.num_asked = 0
        """Number of items without a cached answer that this process has asked."""
        self.num_cut = 0
        self.texts: list[tuple[str, Answer]] = []
        """Prompt and answer of each generated text."""
        self.is_asking = False
        """True while the model answers, and after a failure of the model."""
        self._terminal = sys.stderr

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Return the log-likelihood of each continuation, in nats, and whether greedy decoding gives it.

        Args:
            requests: the harness's requests; those of one item follow each other.

        Raises:
            CheckpointError: The model's logits are NaN.
            DataError: A continuation adds no token to its context.
        """
        items = [
            list(item) for _, item in groupby(requests, lambda request: (request.task_name, request.doc_id))
        ]
        keys = [prompt_hash([text for request in item for text in request.args]) for item in items]
        keyed = (
            [(keys[index], self._token_requests(items[index])) for index in chunk]
            for chunk in answer_loop.chunks(range(len(items)), lambda index: items[index][0].task_name)
        )
        titles = {key: self._title(item[0]) for key, item in zip(keys, items, strict=True)}
        by_key = self._ask(keyed, titles, len(keys), self._likelihoods)
        answers = [by_key[key] for key in keys]
        return [pair for answer in answers for pair in zip(answer.loglikelihoods, answer.greedy, strict=True)]

    def _token_requests(self, item: Sequence[Any]) -> list[TokenRequest]:
        """Encode an item's requests, and truncate those that are too long.

        A continuation without tokens is an error.
        """
        token_requests = self.lm.encode_pairs([request.args for request in item])
        for token_request, request in zip(token_requests, item, strict=True):
            refuse_empty(token_request, request.args, f"lm-eval: {request.task_name} item {request.doc_id}")
        return [self._truncated(token_request) for token_request in token_requests]

    def _truncated(self, request: TokenRequest) -> TokenRequest:
        """Drop a request's first tokens so that its inputs, all tokens but the last, fit the model."""
        surplus = len(request.tokens) - self.lm.max_length - 1
        if surplus <= 0:
            return request
        self.num_cut += 1
        return TokenRequest(request.tokens[surplus:], max(1, request.first - surplus))

    def _likelihoods(self, items: list[list[TokenRequest]]) -> Answers:
        for index, likelihoods in by_item(self.lm, items):
            yield (
                index,
                Answer(
                    loglikelihoods=_checked([likelihood.loglikelihood for likelihood in likelihoods]),
                    num_tokens=tuple(likelihood.num_tokens for likelihood in likelihoods),
                    greedy=tuple(likelihood.greedy for likelihood in likelihoods),
                ),
            )

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Return the log-likelihood of each whole text, in nats.

        A text longer than the model's context is split into windows; every token is scored once.

        Raises:
            CheckpointError: The model's logits are NaN.
        """
        keys = [prompt_hash(["rolling", *request.args]) for request in requests]
        keyed = (
            [(keys[index], requests[index].args[0]) for index in chunk]
            for chunk in answer_loop.chunks(range(len(requests)), lambda index: requests[index].task_name)
        )
        titles = {key: self._title(request) for key, request in zip(keys, requests, strict=True)}
        answers = self._ask(keyed, titles, len(keys), self._text_likelihoods)
        return [answers[key].loglikelihoods[0] for key in keys]

    def _text_likelihoods(self, texts: list[str]) -> Answers:
        scorer = Perplexity(self.lm, as_harness=True)
        for index, text in enumerate(texts):
            likelihoods = self.lm.loglikelihoods(scorer.windows(scorer.tokens(text)))
            total = math.fsum(likelihood.loglikelihood for likelihood in likelihoods)
            num_tokens = sum(likelihood.num_tokens for likelihood in likelihoods)
            yield index, Answer(loglikelihoods=_checked([total]), num_tokens=(num_tokens,))

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Return the generated text after each prompt, cut before the first stop text.

        Raises:
            CheckpointError: The model's logits are NaN.
            ConfigError: A generation option of a request isn't supported.
        """
        generated: dict[int, str] = {}
        repeats: dict[tuple[Any, ...], int] = {}
        groups: dict[str, list[tuple[int, str, str]]] = {}
        for index, request in enumerate(requests):
            context, options = request.args[:2]
            request_id = (request.task_name, request.doc_id, request.idx)
            repeats[request_id] = repeat = repeats.get(request_id, -1) + 1
            seed = f"{self.seed}/{request.task_name}/{self._row(request)}/{repeat}"
            groups.setdefault(json.dumps(options, sort_keys=True), []).append((index, context, seed))
        for options, members in groups.items():
            generated |= self._generated(limits(json.loads(options), "lm-eval"), members, requests)
        return [generated[index] for index in range(len(requests))]

    def _generated(
        self, limit: GenerationConfig, members: Sequence[tuple[int, str, str]], requests: Sequence[Any]
    ) -> dict[int, str]:
        """Generate texts for requests with the same limits; return index of the request -> text.

        Each member is (index in `requests`, prompt, seed) of a request.
        """
        decoder = decoder_for(self.lm, limit, as_harness=True)
        max_length = max(1, self.lm.max_length - limit.max_new_tokens)

        def answers(units: list[tuple[str, str]]) -> Answers:
            prompts = [
                tokens or [self.lm.start_token] for tokens in self.lm.encode([text for text, _ in units])
            ]
            self.num_cut += sum(len(prompt) > max_length for prompt in prompts)
            stream = texts(decoder, [prompt[-max_length:] for prompt in prompts], [seed for _, seed in units])
            for index, (text, finish_reason, _) in stream:
                yield index, Answer(generation=text, extracted=text, finish_reason=finish_reason)

        settings = json.dumps([limit.max_new_tokens, limit.stop, limit.temperature, *_further(limit)])
        is_sampled = limit.temperature > 0
        keys = [
            prompt_hash(["generate", text, settings, seed if is_sampled else ""]) for _, text, seed in members
        ]
        keyed = (
            [(keys[position], members[position][1:]) for position in chunk]
            for chunk in answer_loop.chunks(range(len(members)), lambda _: None)
        )
        titles = {key: self._title(requests[index]) for key, (index, *_) in zip(keys, members, strict=True)}
        by_key = self._ask(keyed, titles, len(keys), answers, is_sampled=is_sampled)
        self.texts += [(text, by_key[key]) for (_, text, _), key in zip(members, keys, strict=True)]
        return {index: by_key[key].generation or "" for (index, _, _), key in zip(members, keys, strict=True)}

    def _ask(
        self,
        keyed: Iterable[Sequence[tuple[str, Any]]],
        titles: Mapping[str, str],
        total: int,
        answers: Callable[[list[Any]], Answers],
        *,
        is_sampled: bool = False,
    ) -> dict[str, Answer]:
        """Ask the units without a cached answer, as `answer_loop.ask` does; `titles` names each by key."""

        def titled_answers(units: list[tuple[str, Any]]) -> Answers:
            return answers([unit for _, unit in units])

        titled = ([(key, (titles[key], unit)) for key, unit in chunk] for chunk in keyed)
        with redirect_stderr(self._terminal):  # shows the progress although the harness is silenced
            self.is_asking = True
            model = self.lm.model
            check = endpoint_check(model, titled_answers, lambda unit: unit[0], is_drawn=is_sampled)
            by_key, num_asked = answer_loop.ask(
                titled, titled_answers, self.answer_cache, self.title, total, check_kept=check
            )
            self.is_asking = False
        self.num_asked += num_asked
        self.answer_cache.answers.update(by_key)
        return by_key

    def _row(self, request: Any) -> int:
        """Return the index of a request's document among the rows of its task."""
        rows = self.samples.get(request.task_name)
        return rows[request.doc_id] if rows else int(request.doc_id)

    def _title(self, request: Any) -> str:
        """Return the name of a request's document for messages."""
        return f"task {request.task_name!r}, document {self._row(request)}"

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Render a conversation with the tokenizer's chat template.

        Without `add_generation_prompt`, the text ends with the last message, which the model continues.

        Raises:
            DataError: The template refuses the conversation.
        """
        try:
            return chat_text(
                self.lm.tokenizer,
                chat_history,
                arguments=self.template_arguments,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        except RenderingError as error:
            raise DataError(
                f"{self.title}: {error.of_chat_template()} (evaluate.chat_template=false, or model.tokenizer)"
            ) from error

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the tokenizer's chat template, if the argument is true and the tokenizer has exactly one."""
        template = self.lm.tokenizer.chat_template if chat_template else None
        return template if isinstance(template, str) else None

    @property
    def tokenizer_name(self) -> str:
        """Name or path from which the tokenizer was loaded."""
        return str(self.lm.tokenizer.name_or_path)


def _further(limit: GenerationConfig) -> list[float]:
    """Return the sampling besides the temperature; empty, as in earlier caches, if it changes nothing."""
    further = [limit.top_p, limit.top_k, limit.repetition_penalty]
    return [] if further == [1.0, 0, 1.0] else further


def _checked(values: Sequence[float]) -> tuple[float, ...]:
    """Return the values as a tuple, after checking that none is NaN.

    Raises:
        CheckpointError: A value is NaN.
    """
    if any(value != value for value in values):
        raise not_numbers("lm-eval")
    return tuple(values)
