"""Rows of instructions and of chats as one normal form: turns, of which the answers are trained."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workbench.config.data import DataFormat
from workbench.data.formats import optional_text, text, value
from workbench.data.readers.json_files import json_text
from workbench.data.rows import Row
from workbench.errors import DataError, first_line

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
"""The names that data sets give to the four roles."""

TRAIN_FLAGS = ("weight", "train", "loss")
"""Keys of a turn that say whether an answer is trained: OpenAI's weight, axolotl's train, ms-swift's loss."""

BEGINS_WITH_ANSWER = "begin with an answer, which is read and not trained"
SYSTEM_TWICE = "have the same system text twice, which is written once"
SYSTEM_CONFLICT = "have a 'system' column that differs from the system turn: the turn is taken"
SYSTEM_UNREAD = "have a 'system' column, which bare prompts and texts don't take"


@dataclass(frozen=True)
class Turn:
    """What one side says at once."""

    role: str
    """system, user, assistant or tool."""
    text: str
    trained: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What a template may want besides: instruction and input apart, tool_calls, reasoning_content, name."""

    def message(self) -> dict[str, Any]:
        """The turn as chat templates take it."""
        return {"role": self.role, "content": self.text, **self.extra}


@dataclass(frozen=True)
class Conversation:
    """One example: its turns in order."""

    turns: tuple[Turn, ...]
    where: str
    tools: Any = None
    """Descriptions of tools, as the row gives them."""
    is_chat: bool = True
    """False where the texts are to be taken as they are: a prompt and its completion, or a text."""
    notes: tuple[str, ...] = ()
    """What was put right or left unread in the row, in words to be counted."""


def conversation(row: Row, shape: DataFormat, *, answered: bool = True) -> Conversation:
    """The row's turns; with `answered=False` a missing last answer is in order, and a given one is dropped.

    Raises:
        DataError: Missing columns, wrong types, an empty answer, or turns in an order that makes no sense.
    """
    turns, notes = with_one_system_turn(row, TURNS[shape](row, answered), is_chat(row, shape))
    if turns[0].role == "assistant":
        turns[0] = replace(turns[0], trained=False)  # what it answers has been cut away, or never was
        notes.append(BEGINS_WITH_ANSWER)
    if not answered:
        while turns and turns[-1].role == "assistant":
            turns.pop()
    check_order(turns, row.where, answered)
    tools, chat = json_value(row, "tools"), is_chat(row, shape)
    return Conversation(tuple(turns), row.where, tools, chat, tuple(dict.fromkeys(notes)))


def is_chat(row: Row, shape: DataFormat) -> bool:
    """Whether the row's turns have roles that a chat template writes out."""
    as_they_are = shape is DataFormat["prompt-completion"] and not isinstance(row.values.get("prompt"), list)
    return not as_they_are and shape is not DataFormat["text"]


def alpaca_turns(row: Row, answered: bool) -> list[Turn]:
    """Instruction, input and output; `history` holds earlier pairs."""
    history = json_value(row, "history") or []
    if not isinstance(history, list) or not all(isinstance(p, list) and len(p) == 2 for p in history):
        raise DataError(f"{row.where}: column 'history' must be a list of [question, answer] pairs")
    turns = []
    for question, answer in history:
        turns += [
            Turn("user", str(question), extra={"instruction": str(question), "input": ""}),
            Turn("assistant", str(answer), trained=True),
        ]
    instruction, given = text(row, "instruction"), optional_text(row, "input")
    both = f"{instruction}\n{given}" if given else instruction
    turns.append(Turn("user", both, extra={"instruction": instruction, "input": given}))
    return turns + ([Turn("assistant", text(row, "output"), trained=True)] if answered else [])


def completion_turns(row: Row, answered: bool) -> list[Turn]:
    """A prompt and its completion, both text or both messages; only the completion is trained."""
    if isinstance(row.values.get("prompt"), list):
        asked = [replace(turn, trained=False) for turn in said_in(row, "prompt")]
        return asked + (said_in(row, "completion") if answered else [])
    prompt = Turn("user", text(row, "prompt"))
    return [prompt] + ([Turn("assistant", text(row, "completion"), trained=True)] if answered else [])


def text_turns(row: Row, answered: bool) -> list[Turn]:
    """A plain text to be continued."""
    return [Turn("user", text(row, "text"))]


def sharegpt_turns(row: Row, answered: bool) -> list[Turn]:
    """`conversations` of {from, value}; the flags of a turn are as in messages."""
    turns = []
    for said in messages_of(row, "conversations"):
        name, words = said.get("from"), said.get("value")
        if not isinstance(name, str) or not isinstance(words, str):
            raise DataError(f"{row.where}: a turn must have a text as 'from' and 'value', not {short(said)}")
        turns.append(turn(name, words, without_keys(said, "from", "value"), row.where))
    return turns


def message_turns(row: Row, answered: bool) -> list[Turn]:
    """`messages` of {role, content}, as in the OpenAI interface."""
    return said_in(row, "messages")


def said_in(row: Row, column: str) -> list[Turn]:
    """A column's messages; a flag such as `train: false` or `weight: 0` leaves an answer untrained."""
    turns = []
    for said in messages_of(row, column):
        name, words = said.get("role"), content_text(said.get("content"))
        if not isinstance(name, str) or words is None:
            raise DataError(f"{row.where}: a message must have a 'role' and a 'content', not {short(said)}")
        turns.append(turn(name, words, without_keys(said, "role", "content"), row.where))
    return turns


TURNS: dict[DataFormat, Callable[[Row, bool], list[Turn]]] = {
    DataFormat["alpaca"]: alpaca_turns,
    DataFormat["prompt-completion"]: completion_turns,
    DataFormat["sharegpt"]: sharegpt_turns,
    DataFormat["messages"]: message_turns,
    DataFormat["text"]: text_turns,
}


def without_keys(message: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The other parts of a message; templates know many names for many things."""
    return {name: part for name, part in message.items() if name not in keys and not is_blank(part)}


def is_blank(part: Any) -> bool:
    """Whether a part of a message says nothing: null, or an empty text, list or object."""
    return part is None or (isinstance(part, str | list | dict) and not part)


def turn(name: str, words: str, extra: Mapping[str, Any], where: str) -> Turn:
    """A turn whose role goes by any of the names in use; an answer is trained unless a flag says no."""
    role = ROLES.get(name)
    if role is None:
        raise DataError(f"{where}: unknown role {name!r} (known: {', '.join(ROLES)})")
    trained = train_flag(extra, where)
    if role == "assistant" or not trained:
        extra = without_keys(extra, *TRAIN_FLAGS)  # a question to be trained is counted as unread
    return Turn(role, words, trained=role == "assistant" and trained is not False, extra=extra)


def train_flag(extra: Mapping[str, Any], where: str) -> bool | None:
    """What the flags of a turn say about training it; None: nothing.

    Raises:
        DataError: A flag that is neither true nor false, or two that contradict each other.
    """
    flags = {name: extra[name] for name in TRAIN_FLAGS if name in extra}
    for name, flag in flags.items():
        if not isinstance(flag, bool | int | float) or flag not in (0, 1):
            raise DataError(
                f"{where}: {name!r} of a turn must be true or false (or 1 or 0), not {short(flag)}"
            )
    if len({bool(flag) for flag in flags.values()}) > 1:
        written = ", ".join(f"{name}: {short(flag)}" for name, flag in flags.items())
        raise DataError(
            f"{where}: a turn says twice whether it is trained, {written} (leave one of them out)"
        )
    return bool(next(iter(flags.values()))) if flags else None


def with_one_system_turn(row: Row, turns: list[Turn], chat: bool) -> tuple[list[Turn], list[str]]:
    """The turns with the `system` column ahead, once, and what there was to decide.

    A system turn that differs from the column is nearer to the chat, so it is taken.
    """
    column = optional_text(row, "system").strip()
    if not chat:
        return turns, [SYSTEM_UNREAD] if column else []
    notes: list[str] = []
    while column and turns and turns[0].role == "system" and not turns[0].text.strip():
        turns = turns[1:]
    if column and any(turn.role == "system" and turn.text.strip() == column for turn in turns):
        notes.append(SYSTEM_TWICE)
    elif column and turns and turns[0].role == "system":
        notes.append(SYSTEM_CONFLICT)
    elif column:
        turns = [Turn("system", optional_text(row, "system")), *turns]
    single = [turn for turn, before in zip(turns, [None, *turns], strict=False) if not repeats(turn, before)]
    return single, notes + ([SYSTEM_TWICE] if len(single) < len(turns) else [])


def repeats(turn: Turn, before: Turn | None) -> bool:
    """Whether a system turn says what the system turn before it has said."""
    if before is None or not turn.role == before.role == "system":
        return False
    return turn.text.strip() == before.text.strip()


def messages_of(row: Row, column: str) -> list[dict[str, Any]]:
    """A column that must be a list of objects."""
    found = value(row, column)
    if not isinstance(found, list) or not found or not all(isinstance(said, dict) for said in found):
        name = row.own_name(column)
        raise DataError(f"{row.where}: column {name!r} must be a list of turns, not {short(found)}")
    return found


def content_text(content: Any) -> str | None:
    """A message's text, the text parts of a list joined, null made empty; None where it is something else."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return None
    texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(map(str, texts)) if len(texts) == len(content) else None


def json_value(row: Row, column: str) -> Any:
    """What a column holds, such as tool descriptions; some sets have it as a JSON text."""
    found = row.values.get(column)
    if not isinstance(found, str):
        return found or None
    try:
        return json_text(found) if found.strip() else None
    except ValueError as error:
        reason = first_line(error)
        raise DataError(f"{row.where}: column {column!r} holds malformed JSON, {reason}") from error


def check_order(turns: list[Turn], where: str, answered: bool) -> None:
    """Refuse turns that no chat could have had.

    Raises:
        DataError: With the number of the turn.
    """
    previous = None
    for number, said in enumerate(turns, start=1):
        if said.role == previous and said.role in ("user", "assistant"):
            raise DataError(f"{where}: turns {number - 1} and {number} are both of the {said.role}")
        if said.trained and not said.text.strip() and "tool_calls" not in said.extra:
            raise DataError(f"{where}: the answer in turn {number} is empty")
        previous = said.role
    if answered and previous != "assistant":
        raise DataError(f"{where}: ends with a turn of the {previous}, which nothing answers")
    if not answered and previous is None:
        raise DataError(f"{where}: nothing to answer")


def with_shuffled_answers(conversations: Sequence[Conversation], seed: int) -> list[Conversation]:
    """The same prompts, with all trained answers dealt out anew, thoughts and calls of tools with them."""
    pool = [(turn.text, turn.extra) for example in conversations for turn in example.turns if turn.trained]
    random.Random(seed).shuffle(pool)
    dealt = iter(pool)

    def other(turn: Turn) -> Turn:
        text, extra = next(dealt)
        return replace(turn, text=text, extra=extra)

    return [
        replace(example, turns=tuple(other(turn) if turn.trained else turn for turn in example.turns))
        for example in conversations
    ]


def short(found: Any) -> str:
    """A value, cut to fit a message."""
    written = json.dumps(found, ensure_ascii=False, default=str)
    return written if len(written) <= 60 else written[:57] + "..."
