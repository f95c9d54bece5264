"""The openai package, and lm-evaluation-harness's local-completions beside its own hf model."""

import random

import pytest
from serving_client import OneModel, Served

from workbench.config.data import DataConfig
from workbench.serving.access import KEY_VARIABLE
from workbench.shipped import PACKAGE

pytestmark = pytest.mark.peer
TOY = PACKAGE / "toy" / "base"
WORDS = [
    "小军",
    "说",
    "早上好",
    "1",
    "+",
    "2",
    "=",
    "3",
    "The",
    "answer",
    "is",
    "panda",
    "熊猫",
    "了",
    "的",
    "。",
    "town",
    "see",
    "🐼",
]
KEY = "a-key-of-more-than-16-characters"


def pairs(count: int) -> list[tuple[str, str]]:
    """Contexts and continuations; every fifth context is empty."""
    rng = random.Random(0)
    texts = [
        (rng.choices(WORDS, k=rng.randint(3, 40)), rng.choices(WORDS, k=rng.randint(1, 4)))
        for _ in range(count)
    ]
    return [
        ("" if index % 5 == 0 else " ".join(context), " " + " ".join(continuation))
        for index, (context, continuation) in enumerate(texts)
    ]


@pytest.fixture
def harness(served, monkeypatch):
    """Both models of the harness: one that asks the server, one of the weights."""
    pytest.importorskip("lm_eval")
    pytest.importorskip("tenacity")
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    import workbench.models  # noqa: F401  registers the architecture

    local = LocalCompletionsAPI(
        base_url=f"{served.url}/v1/completions",
        model="base",
        pretrained="base",
        tokenizer=str(TOY),
        tokenizer_backend="huggingface",
        add_bos_token=True,
        batch_size=4,
        max_length=512,
    )
    return local, HFLM(pretrained=str(TOY), device="cpu", dtype="float32", batch_size=4)


@pytest.mark.filterwarnings("ignore")
def test_the_harness_gives_served_scores_within_a_tenthousandth_of_its_hf_model(harness):
    from lm_eval.api.instance import Instance

    def ask(lm, kind: str, arguments: list[tuple]) -> list:
        made = [Instance(kind, {}, a, i, metadata=(None, None, None)) for i, a in enumerate(arguments)]
        return getattr(lm, kind)(made)

    found, expected = (ask(lm, "loglikelihood", pairs(200)) for lm in harness)
    assert len({round(value, 3) for value, _ in expected}) > 150
    for (value, greedy), (other, is_greedy) in zip(found, expected, strict=True):
        assert abs(value - other) < 1e-4
        assert greedy == bool(is_greedy)
    limits = {"until": ["。"], "max_gen_toks": 12, "do_sample": False}
    prompts = [(context, limits) for context, _ in pairs(40) if context]
    texts, own = (ask(lm, "generate_until", prompts) for lm in harness)
    assert texts == own


@pytest.mark.filterwarnings("ignore")
def test_the_openai_package_completes_chats_and_streams(lm, monkeypatch):
    openai = pytest.importorskip("openai")
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    server = Served(OneModel(lm), {"base": lm.max_length}, DataConfig(template="chatml"))
    try:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)
        assert [model.id for model in client.models.list()] == ["base"]
        completion = client.completions.create(
            model="base", prompt="小军说", max_tokens=9, logprobs=1, echo=True
        )
        assert completion.choices[0].text.startswith("小军说")
        assert completion.choices[0].logprobs.token_logprobs[0] is None
        messages = [{"role": "user", "content": "早上好"}]
        whole = client.chat.completions.create(model="base", messages=messages, max_tokens=12)
        stream = client.chat.completions.create(model="base", messages=messages, max_tokens=12, stream=True)
        parts = [chunk.choices[0].delta.content or "" for chunk in stream]
        assert "".join(parts) == whole.choices[0].message.content
        with pytest.raises(openai.BadRequestError, match="logit_bias"):
            client.completions.create(model="base", prompt="x", logit_bias={"5": 1})
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0).models.list()
    finally:
        server.stop()
