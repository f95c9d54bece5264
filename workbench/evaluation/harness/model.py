"""A loaded model as lm-evaluation-harness wants one: its three kinds of requests, answered by this engine.

    lm = HarnessLM(TransformersLM(model.eval(), tokenizer, EvaluateConfig()))
    lm_eval.simple_evaluate(model=lm, tasks=["hellaswag"])

Imported only where the harness is installed.
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
from workbench.evaluation.harness.limits import limits
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.inference.encoding import refuse_empty
from workbench.evaluation.inference.not_numbers import not_numbers
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.evaluation.records import Answer, prompt_hash
from workbench.evaluation.tasks.multiple_choice import by_item
from workbench.evaluation.tasks.perplexity import Perplexity

Answers = Iterator[tuple[int, Answer]]


class HarnessLM(LM):  # type: ignore[misc]
    """A causal language model of this project in the role of one of lm-evaluation-harness.

    Prompts that are too long lose their beginning, as they do in the harness; `num_cut` counts them.
    """

    def __init__(
        self,
        lm: TransformersLM,
        kept: AnswerCache | None = None,
        title: str = "lm-eval",
        seed: int = 1234,
        samples: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        """Take the model.

        Args:
            lm: the model and its tokenizer.
            kept: answers already had, and where new ones go.
            title: of the progress.
            seed: of sampled answers, which depend on it and on task, item and repeat.
            samples: task -> numbers of the rows that are asked, where these aren't the first ones.
        """
        super().__init__()
        self.lm = lm
        self.kept = kept if kept is not None else AnswerCache(None, "", None)
        self.title = title
        self.seed = seed
        self.samples = samples or {}
        self.num_asked = 0
        self.num_cut = 0
        self.is_asking = False
        """Whether the model is at work, or has failed there."""
        self._terminal = sys.stderr

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation, in nats, and whether it is what greedy decoding gives."""
        items = [list(some) for _, some in groupby(requests, lambda one: (one.task_name, one.doc_id))]
        keys = [prompt_hash([text for one in some for text in one.args]) for some in items]
        keyed = (
            [(keys[place], self._pairs(items[place])) for place in chunk]
            for chunk in answer_loop.chunks(range(len(items)), lambda place: items[place][0].task_name)
        )
        found = self._ask(keyed, len(keys), self._likelihoods)
        answers = [found[key] for key in keys]
        return [pair for a in answers for pair in zip(a.loglikelihoods, a.greedy, strict=True)]

    def _pairs(self, item: Sequence[Any]) -> list[TokenRequest]:
        requests = self.lm.encode_pairs([one.args for one in item])
        for request, one in zip(requests, item, strict=True):
            refuse_empty(request, one.args, f"lm-eval: {one.task_name} item {one.doc_id}")
        return [self._cut(request) for request in requests]

    def _cut(self, request: TokenRequest) -> TokenRequest:
        """The request without its first tokens where it is too long; the last token is never read."""
        surplus = len(request.tokens) - self.lm.max_length - 1
        if surplus <= 0:
            return request
        self.num_cut += 1
        return TokenRequest(request.tokens[surplus:], max(1, request.first - surplus))

    def _likelihoods(self, items: list[list[TokenRequest]]) -> Answers:
        for number, found in by_item(self.lm, items):
            yield (
                number,
                Answer(
                    loglikelihoods=_numbers([one.loglikelihood for one in found]),
                    num_tokens=tuple(one.num_tokens for one in found),
                    greedy=tuple(one.greedy for one in found),
                ),
            )

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Log-likelihood of each whole text, in nats, every token given at most the model's context."""
        keys = [prompt_hash(["rolling", *one.args]) for one in requests]
        keyed = (
            [(keys[place], requests[place].args[0]) for place in chunk]
            for chunk in answer_loop.chunks(range(len(requests)), lambda place: requests[place].task_name)
        )
        found = self._ask(keyed, len(keys), self._whole_texts)
        return [found[key].loglikelihoods[0] for key in keys]

    def _whole_texts(self, texts: list[str]) -> Answers:
        scorer = Perplexity(self.lm, as_harness=True)
        for number, text in enumerate(texts):
            found = self.lm.loglikelihoods(scorer.windows(scorer.tokens(text)))
            total = math.fsum(one.loglikelihood for one in found)
            yield (
                number,
                Answer(loglikelihoods=_numbers([total]), num_tokens=(sum(one.num_tokens for one in found),)),
            )

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The text that follows each prompt, cut before the first stop text."""
        texts: dict[int, str] = {}
        repeats: dict[tuple[Any, ...], int] = {}
        groups: dict[str, list[tuple[int, str, str]]] = {}
        for place, one in enumerate(requests):
            context, options = one.args[:2]
            whose = (one.task_name, one.doc_id, one.idx)
            repeats[whose] = repeat = repeats.get(whose, -1) + 1
            numbers = self.samples.get(one.task_name)
            row = numbers[one.doc_id] if numbers else one.doc_id
            seed = f"{self.seed}/{one.task_name}/{row}/{repeat}"
            groups.setdefault(json.dumps(options, sort_keys=True), []).append((place, context, seed))
        for options, members in groups.items():
            texts |= self._generated(limits(json.loads(options), "lm-eval"), members)
        return [texts[place] for place in range(len(requests))]

    def _generated(self, limit: GenerationConfig, members: Sequence[tuple[int, str, str]]) -> dict[int, str]:
        """Place and text of requests with the same limits: each a place, a prompt and a seed."""
        decoder = Decoder(self.lm, limit, as_harness=True)
        longest = max(1, self.lm.max_length - limit.max_new_tokens)

        def answers(units: list[tuple[str, str]]) -> Answers:
            prompts = [tokens or [self.lm.start_token] for tokens in self.lm.encode([u[0] for u in units])]
            self.num_cut += sum(len(prompt) > longest for prompt in prompts)
            stream = decoder.stream([prompt[-longest:] for prompt in prompts], [u[1] for u in units])
            for number, text in stream:
                yield number, Answer(generation=text, extracted=text)

        about = json.dumps([limit.max_new_tokens, limit.stop, limit.temperature])
        sampled = limit.temperature > 0
        keys = [prompt_hash(["generate", text, about, seed if sampled else ""]) for _, text, seed in members]
        keyed = (
            [(keys[k], members[k][1:]) for k in chunk]
            for chunk in answer_loop.chunks(range(len(members)), lambda _: None)
        )
        found = self._ask(keyed, len(keys), answers)
        return {place: found[key].generation or "" for (place, _, _), key in zip(members, keys, strict=True)}

    def _ask(
        self,
        keyed: Iterable[Sequence[tuple[str, Any]]],
        total: int,
        answers: Callable[[list[Any]], Answers],
    ) -> dict[str, Answer]:
        with redirect_stderr(self._terminal):  # where the progress belongs, whoever quiets the harness
            self.is_asking = True
            found, count = answer_loop.ask(keyed, answers, self.kept, self.title, total)
            self.is_asking = False
        self.num_asked += count
        self.kept.answers.update(found)
        return found

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as text, in the tokenizer's own format."""
        try:
            return chat_text(
                self.lm.tokenizer,
                chat_history,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        except RenderingError as error:
            raise DataError(
                f"{self.title}: {error.of_chat_template()} (evaluate.chat_template=false, or model.tokenizer)"
            ) from error

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The tokenizer's chat template."""
        template = self.lm.tokenizer.chat_template if chat_template else None
        return template if isinstance(template, str) else None

    @property
    def tokenizer_name(self) -> str:
        """What the harness names the tokenizer by."""
        return str(self.lm.tokenizer.name_or_path)


def _numbers(values: Sequence[float]) -> tuple[float, ...]:
    """The values, none of which is NaN.

    Raises:
        CheckpointError: one is.
    """
    if any(value != value for value in values):
        raise not_numbers("lm-eval")
    return tuple(values)
