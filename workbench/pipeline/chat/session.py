"""A conversation with one or several models: what was said, the prompts made of it, and the replies."""

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
from workbench.files import write_atomic
from workbench.pipeline.chat.models import ChatModels
from workbench.pipeline.predict.predict_input import trained_before
from workbench.pipeline.run_state import Run
from workbench.pipeline.tokenizers import tokenizer_for

HALF = "\ufffd"
"""Decoded in place of a character whose bytes aren't all there yet."""


STOPPED = "stopped"


@dataclass(frozen=True)
class Reply:
    """What a model said."""

    text: str
    note: str
    """Why it isn't to be trained: stopped, cut, empty; "": the model ended it."""


@dataclass(frozen=True)
class Exchange:
    """What the user said, and the reply of each model that was asked."""

    said: str
    replies: dict[str, Reply]

    def reply(self, name: str) -> Reply:
        """A model's own reply, else that of the model that was asked."""
        return self.replies.get(name) or next(iter(self.replies.values()))


class Session:
    """The state of a chat."""

    def __init__(self, run: Run) -> None:
        """Begin an empty conversation with the models of `chat.models`.

        Raises:
            WorkbenchError: a model that isn't there or can't talk.
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
        """Let these models answer; they are loaded now."""
        for name in names:
            with self.models.answering(name):
                pass
        self.names = list(names)

    def messages(self, name: str) -> list[dict[str, Any]]:
        """The conversation as a model has it: its own replies where it was asked."""
        messages: list[dict[str, Any]] = [{"role": "system", "content": self.system}] if self.system else []
        for exchange in self.exchanges:
            reply = exchange.reply(name)
            untrained = {"train": False} if reply.note else {}
            messages.append({"role": "user", "content": exchange.said})
            messages.append({"role": "assistant", "content": reply.text, **untrained})
        return messages

    def ask(self, said: str, name: str, on_text: Callable[[str], None]) -> Reply:
        """A model's reply; Ctrl-C ends it early.

        Args:
            said: what the user says.
            name: of the model.
            on_text: called with the beginning of the reply that is settled, as it grows.

        Raises:
            DataError: the conversation doesn't fit into the model's context.
        """
        turns = [*self.messages(name), {"role": "user", "content": said}]
        row = Row({"messages": turns} if self.has_turns else {"prompt": said}, "chat")
        made: list[int] = []
        with self.models.answering(name) as decoder:
            # The tokens that the predict step asks the same row with.
            (prompt,) = prompts([row], decoder.lm.tokenizer, self.data, Task.causal_lm)
            room, endings = decoder.lm.max_length - len(prompt.input_ids), decoder.endings
            if room < 1:
                raise DataError(
                    f"chat: {len(prompt.input_ids):,} tokens leave no room for an answer in the model's "
                    f"{decoder.lm.max_length:,} (/clear begins a new conversation)"
                )

            def on_token(tokens: Sequence[int]) -> None:
                made[:] = tokens
                on_text(settled(endings.text(made), endings.stop))

            decoder.on_token = on_token
            decoder.limits = replace(decoder.limits, max_new_tokens=min(room, self.max_new_tokens))
            note = f"cut at {decoder.limits.max_new_tokens:,} tokens"
            try:
                list(decoder.tokens([prompt.input_ids], [f"{self.seed}/{len(self.exchanges)}"]))
            except KeyboardInterrupt:
                note = STOPPED
            if made and endings.reached(made):
                text = endings.text(made)
                return Reply(text, "" if text.strip() else "an empty answer")
            return Reply(endings.text(made).rstrip(HALF), note)

    def add(self, said: str, replies: dict[str, Reply]) -> None:
        """Keep what was said and replied, unless there is no word of a reply."""
        if any(reply.text for reply in replies.values()):
            self.exchanges.append(Exchange(said, replies))

    def save(self, file: Path) -> int:
        """Write the conversation with each model that answers as rows to train on; how many.

        Raises:
            ConfigError: nothing was said, or the file is another's.
        """
        if not self.exchanges or (file.exists() and file not in self.saved):
            reason = f"{str(file)!r} exists (another file)" if self.exchanges else "nothing has been said yet"
            raise ConfigError(f"/save: {reason}")
        rows: list[dict[str, Any]] = [{"messages": self.messages(name)} for name in self.names]
        if not self.has_turns:
            said = [(each.said, each.reply(name)) for name in self.names for each in self.exchanges]
            rows = [{"prompt": prompt, "completion": reply.text} for prompt, reply in said if not reply.note]
        write_atomic(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        self.saved.add(file)
        return len(rows)


def settled(text: str, stop: Sequence[str]) -> str:
    """The beginning of a growing text that stays, without half a character or half a stop text at its end."""
    text = text.rstrip(HALF + " ")
    halves = [whole[:length] for whole in stop for length in range(1, len(whole))]
    return text.removesuffix(max((half for half in halves if text.endswith(half)), key=len, default=""))


def has_turns(run: Run, names: Sequence[str]) -> bool:
    """Whether lines are turns of a conversation: as `chat.turns` says, or as the run was trained.

    Raises:
        ConfigError: a classifier, or nothing says how turns are written.
    """
    config = run.config
    if config.model.task is not Task.causal_lm:
        raise ConfigError("model.task: a classifier can't talk (recipe=predict labels texts)")
    trained = trained_before(config, run.run_dir).get("is_chat")
    if config.chat.turns is not None or trained is not None:
        return bool(trained if config.chat.turns is None else config.chat.turns)
    templates = (tokenizer_for(name, run).chat_template for name in names)
    if config.data.template == Template["auto"].name and not any(templates):
        raise ConfigError(
            f"model.path: {config.model.path!r} has no chat template (data.template=open-llama, chatml or "
            "alpaca writes turns, chat.turns=false continues each line as it is)"
        )
    return True
