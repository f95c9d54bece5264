"""A conversation with one or several models: the messages, their prompts and the replies."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.config.data import Template
from workbench.config.model import Task
from workbench.data.inference_prompts import prompts
from workbench.data.readers.row import Row
from workbench.errors import ConfigError, DataError
from workbench.evaluation.inference.decoding.within_memory import tokens_within_memory
from workbench.evaluation.inference.stop_rules import stable_prefix
from workbench.files import write_atomic
from workbench.pipeline.chat.models import ChatModels
from workbench.pipeline.predict.predict_input import trained_before
from workbench.pipeline.run_state import Run
from workbench.pipeline.tokenizers import tokenizer_for

STOPPED = "stopped"
"""Note of a reply that Ctrl-C ended."""


@dataclass(frozen=True)
class Reply:
    """A model's reply."""

    text: str
    note: str
    """Why the reply isn't fit for training: stopped, cut at the limit, or empty; "" if it is fit."""


@dataclass(frozen=True)
class Exchange:
    """A user's message, and the replies by the name of the model that was asked (at least one)."""

    message: str
    replies: dict[str, Reply]

    def reply(self, name: str) -> Reply:
        """Return a model's reply; if the model wasn't asked, the reply of the first model that was."""
        return self.replies.get(name) or next(iter(self.replies.values()))


class Session:
    """A chat: its conversation so far, the models that answer, and the settings."""

    def __init__(self, run: Run) -> None:
        """Load the models of `chat.models` (empty: the run's first), and start an empty conversation.

        Raises:
            WorkbenchError: The run doesn't have a model, or it is a classifier.
        """
        config, self.models = run.config, ChatModels(run)
        self.has_turns = has_turns(run, self.models.names)
        self.data = replace(config.data, path="", sources={}, limit=None, unfold="")
        self.max_new_tokens, self.seed = config.chat.max_new_tokens, config.chat.seed
        self.system = config.chat.system or ""
        self.exchanges: list[Exchange] = []
        self.saved: set[Path] = set()
        self.choose(config.chat.models or self.models.names[:1])

    def choose(self, names: Sequence[str]) -> None:
        """Load the models that answer from now on; the conversation stays.

        Raises:
            WorkbenchError: The run doesn't have a model, or it can't be loaded; the selection doesn't change.
        """
        for name in names:
            with self.models.answering(name):
                pass
        self.names = list(names)

    def messages(self, name: str) -> list[dict[str, Any]]:
        """Return the conversation as chat messages, with the replies of the model `name` (`Exchange.reply`).

        A reply that is not fit for training has `train: False`.
        """
        messages: list[dict[str, Any]] = [{"role": "system", "content": self.system}] if self.system else []
        for exchange in self.exchanges:
            reply = exchange.reply(name)
            untrained = {"train": False} if reply.note else {}
            messages.append({"role": "user", "content": exchange.message})
            messages.append({"role": "assistant", "content": reply.text, **untrained})
        return messages

    def ask(self, message: str, name: str, on_text: Callable[[str], None]) -> Reply:
        """Ask a model, and return its reply, which Ctrl-C ends early; `add` adds it to the conversation.

        Args:
            message: The user's message.
            name: Name of the model.
            on_text: Called as the reply grows, with the part of its text that later tokens can't change.

        Raises:
            DataError: The conversation doesn't fit into the model's context.
        """
        turns = [*self.messages(name), {"role": "user", "content": message}]
        row = Row({"messages": turns} if self.has_turns else {"prompt": message}, "chat")
        reply_ids: list[int] = []
        with self.models.answering(name) as decoder:
            # The same tokens as in the predict step.
            (prompt,) = prompts([row], decoder.lm.tokenizer, self.data, Task.causal_lm)
            num_left, endings = decoder.lm.max_length - len(prompt.input_ids), decoder.endings
            if num_left < 1:
                raise DataError(
                    f"chat: the conversation's {len(prompt.input_ids):,} tokens leave no room for a reply in "
                    f"the model's context of {decoder.lm.max_length:,} (/clear starts a new conversation)"
                )

            def on_token(tokens: Sequence[int]) -> None:
                reply_ids[:] = tokens
                on_text(stable_prefix(endings.text(reply_ids), endings.stop))

            decoder.on_token = on_token
            decoder.limits = replace(decoder.limits, max_new_tokens=min(num_left, self.max_new_tokens))
            note = f"cut at {decoder.limits.max_new_tokens:,} tokens"
            try:
                list(
                    tokens_within_memory(decoder, [prompt.input_ids], [f"{self.seed}/{len(self.exchanges)}"])
                )
            except KeyboardInterrupt:
                note = STOPPED
            if reply_ids and endings.reached(reply_ids):
                text = endings.text(reply_ids)
                return Reply(text, "" if text.strip() else "the reply is empty")
            return Reply(endings.text(reply_ids), note)

    def add(self, message: str, replies: dict[str, Reply]) -> None:
        """Add a message and its replies to the conversation, unless all replies are empty."""
        if any(reply.text for reply in replies.values()):
            self.exchanges.append(Exchange(message, replies))

    def save(self, file: Path) -> int:
        """Write the conversation with each model that answers as training rows (JSONL); return their number.

        With turns a row is a model's conversation; else a prompt and a reply that is fit for training.

        Raises:
            ConfigError: The conversation is empty, or the file was not written by this chat.
        """
        if not self.exchanges:
            raise ConfigError("/save: the conversation is empty")
        if file.exists() and file not in self.saved:
            raise ConfigError(f"/save: {str(file)!r} exists (name another file)")
        rows: list[dict[str, Any]] = [{"messages": self.messages(name)} for name in self.names]
        if not self.has_turns:
            rows = [
                {"prompt": exchange.message, "completion": exchange.reply(name).text}
                for name in self.names
                for exchange in self.exchanges
                if not exchange.reply(name).note
            ]
        write_atomic(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        self.saved.add(file)
        return len(rows)


def has_turns(run: Run, names: Sequence[str]) -> bool:
    """Return whether the user's lines are turns of a conversation, rather than separate prompts.

    `chat.turns` decides, else the rows that the run was trained on, else the chat template.

    Raises:
        ConfigError: The model is a classifier, or nothing decides and it has no chat template.
        DataError: train.json was changed since the training.
    """
    config = run.config
    if config.model.task is not Task.causal_lm:
        raise ConfigError("model.task: a classifier can't chat (recipe=predict labels texts)")
    trained = trained_before(config, run.run_dir).get("is_chat")
    if config.chat.turns is not None or trained is not None:
        return bool(trained if config.chat.turns is None else config.chat.turns)
    templates = (tokenizer_for(name, run).chat_template for name in names)
    if config.data.template == Template["auto"].name and not any(templates):
        raise ConfigError(
            f"model.path: {config.model.path!r} has no chat template (data.template=open-llama, chatml or "
            "alpaca gives it one; chat.turns=false continues each line as it is)"
        )
    return True
