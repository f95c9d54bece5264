"""Servers of the toy model that answer in the published formats of vLLM and SGLang.

vLLM: OpenAI-compatible server, fields `prompt_logprobs` and `return_tokens_as_token_ids` of completions.
SGLang: native API, path /generate. Both refuse `echo` here, so that their own formats are needed.
"""

from collections.abc import Callable
from typing import Any

from json_server import JsonServer, Reply

from workbench.config.benchmark import GenerationConfig
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.inference.token_scores import TokenScore, token_scores

Spoil = Callable[[list[Any]], list[Any]]
"""Changes the log-probabilities of a prompt, one entry for each token."""
REFUSED: Reply = (400, {"object": "error", "message": "echo is not supported", "code": 400})


def exact(entries: list[Any]) -> list[Any]:
    return entries


def late(entries: list[Any]) -> list[Any]:
    """Each token has the entry of the token before; vLLM's are named by the token that they should be of."""
    return [entries[0], *entries[:-1]]


class Engine:
    """Greedy tokens and log-probabilities by the toy model."""

    def __init__(self, lm: TransformersLM) -> None:
        self.lm = lm

    def new_tokens(self, prompt: list[int], count: int) -> list[TokenScore]:
        limits = GenerationConfig(max_new_tokens=count, stop=[])
        ((_, tokens),) = Decoder(self.lm, limits).tokens([prompt], [""])
        return token_scores(self.lm, [*prompt, *tokens], len(prompt), 1, lambda: None)

    def scores(self, tokens: list[int]) -> list[TokenScore]:
        return token_scores(self.lm, tokens, 1, 1, lambda: None)

    def text(self, token: int) -> str:
        return str(self.lm.tokenizer.decode([token]))


def vllm(
    lm: TransformersLM, spoil: Spoil = exact, names: tuple[str, ...] = ("toy",), added: tuple[int, ...] = ()
) -> JsonServer:
    """vLLM's completions; `added` tokens come before each prompt."""
    engine = Engine(lm)

    def entry(score: TokenScore) -> dict[str, Any]:
        chosen = dict([(score.token, score.logprob), *score.top])
        return {
            str(token): {"logprob": value, "rank": 1, "decoded_token": engine.text(token)}
            for token, value in chosen.items()
        }

    def reply(path: str, body: dict[str, Any] | None) -> Reply:
        if body is None:
            return 200, {"data": [{"id": name, "owned_by": "vllm", "max_model_len": 512} for name in names]}
        if path != "/v1/completions":
            return 404, {"detail": "Not Found"}
        if body.get("echo"):
            return REFUSED
        assert body["temperature"] == 0 and body["top_p"] == 1
        prompt = [*added, *body["prompt"]]
        new = engine.new_tokens(prompt, body["max_tokens"])
        choice: dict[str, Any] = {"index": 0, "text": "".join(engine.text(score.token) for score in new)}
        if body.get("logprobs") is not None:
            as_ids = body.get("return_tokens_as_token_ids")
            tokens = [f"token_id:{s.token}" if as_ids else engine.text(s.token) for s in new]
            values = [score.logprob for score in new]
            choice["logprobs"] = {"tokens": tokens, "token_logprobs": values, "top_logprobs": None}
        if body.get("prompt_logprobs") is not None:
            scores = engine.scores(prompt)
            entries = spoil([entry(score) for score in scores])
            if spoil is not exact:  # under the names of the tokens that were sent
                entries = [
                    {str(score.token): next(iter(wrong.values()))}
                    for score, wrong in zip(scores, entries, strict=True)
                ]
            choice["prompt_logprobs"] = [None, *entries]
        return 200, {"choices": [choice], "usage": {"prompt_tokens": len(prompt)}}

    return JsonServer(reply)


def sglang(
    lm: TransformersLM, spoil: Spoil = exact, names: tuple[str, ...] = ("toy",), added: tuple[int, ...] = ()
) -> JsonServer:
    """SGLang's /generate; `added` tokens come before each prompt."""
    engine = Engine(lm)

    def triple(score: TokenScore) -> list[Any]:
        return [score.logprob, score.token, None]

    def reply(path: str, body: dict[str, Any] | None) -> Reply:
        if body is None:
            return 200, {"data": [{"id": name, "owned_by": "sglang", "max_model_len": 512} for name in names]}
        if path == "/v1/completions":
            if body.get("echo"):
                return REFUSED
            new = engine.new_tokens(body["prompt"], body["max_tokens"])
            return 200, {"choices": [{"text": "".join(engine.text(score.token) for score in new)}]}
        if path != "/generate":
            return 404, {"detail": "Not Found"}
        assert body["return_logprob"] and body["sampling_params"]["temperature"] == 0
        tokens = [*added, *body["input_ids"]]
        start = body.get("logprob_start_len", len(tokens) - 1)
        facts: dict[str, Any] = {"prompt_tokens": len(tokens)}
        new = engine.new_tokens(tokens, body["sampling_params"]["max_new_tokens"])
        facts["output_token_logprobs"] = [triple(score) for score in new]
        scores = engine.scores(tokens)[start:]
        values = [[None, tokens[start], None], *map(triple, scores)]
        wrong = [None, *spoil([value for value, *_ in values[1:]])] if scores else [None]
        facts["input_token_logprobs"] = [[v, *rest] for v, (_, *rest) in zip(wrong, values, strict=True)]
        if body.get("top_logprobs_num"):
            tops = [[[value, token, None] for token, value in score.top] for score in scores]
            facts["input_top_logprobs"] = [None, *tops]
        return 200, {"text": "", "meta_info": facts}

    return JsonServer(reply)
