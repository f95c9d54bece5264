"""Converts rows of all chat and instruction formats to conversations, and marks the answers to train on."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workbench.config.data import DataFormat
from workbench.data.formats import json_value, optional_text, short, text, value
from workbench.data.rows import Row
from workbench.errors import DataError

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
"""Role as a data set writes it -> one of the four roles of `Turn`."""

TRAIN_FLAGS = ("weight", "train", "loss")
"""Fields of a turn that switch its loss on or off: OpenAI's weight, axolotl's train, ms-swift's loss."""

BEGINS_WITH_ANSWER = "begin with an answer, which carries no loss"
SYSTEM_TWICE = "have the same system text twice: it is written once"
SYSTEM_CONFLICT = "have a 'system' column that differs from the system turn: the turn is used"
SYSTEM_UNREAD = "have a 'system' column, which is not used for bare prompts and texts"


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: str
    """system, user, assistant or tool."""
    text: str
    trained: bool = False
    """Whether the loss is computed on the tokens of this turn."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields for templates: instruction and input, tool_calls, reasoning_content, name."""

    def message(self) -> dict[str, Any]:
        """Convert the turn to a message as chat templates read it: role, content, and the extra fields."""
        return {"role": self.role, "content": self.text, **self.extra}


@dataclass(frozen=True)
class Conversation:
    """The turns of one row, in order."""

    turns: tuple[Turn, ...]
    where: str
    """File and line of the row."""
    tools: Any = None
    """JSON descriptions of the tools that the model may call, as the row has them; None: no tools."""
    is_chat: bool = True
    """Whether a chat template renders the turns; False for a bare prompt and completion, or a document."""
    notes: tuple[str, ...] = ()
    """What was corrected or ignored in the row, such as a repeated system text; notes are logged."""


def conversation(row: Row, shape: DataFormat, *, answered: bool = True) -> Conversation:
    """Convert a row of the format `shape` to a conversation; `answered=False` leaves out answers at its end.

    Raises:
        DataError: A column is missing or malformed, a role is unknown, flags contradict each other, an answer
            is empty or (if `answered`) missing at the end, or turns are out of order.
    """
    turns, notes = with_one_system_turn(row, TURNS[shape](row, answered), is_chat(row, shape))
    if turns[0].role == "assistant":
        turns[0] = replace(turns[0], trained=False)  # its question was cut off, or never existed
        notes.append(BEGINS_WITH_ANSWER)
    if not answered:
        while turns and turns[-1].role == "assistant":
            turns.pop()
    check_order(turns, row.where, answered)
    tools, chat = json_value(row, "tools"), is_chat(row, shape)
    return Conversation(tuple(turns), row.where, tools, chat, tuple(dict.fromkeys(notes)))


def is_chat(row: Row, shape: DataFormat) -> bool:
    """Return whether a chat template renders a row: not for a `prompt` that is a string, nor for a text."""
    is_bare = shape is DataFormat["prompt-completion"] and not isinstance(row.values.get("prompt"), list)
    return not is_bare and shape is not DataFormat["text"]


def alpaca_turns(row: Row, answered: bool) -> list[Turn]:
    """Convert `history`, instruction, input and (if `answered`) output to turns, or raise a DataError."""
    history = json_value(row, "history") or []
    if not isinstance(history, list) or not all(isinstance(p, list) and len(p) == 2 for p in history):
        raise DataError(f"{row.where}: column 'history' must be a list of [question, answer] pairs")
    turns = []
    for question, answer in history:
        turns += [
            Turn("user", str(question), extra={"instruction": str(question), "input": ""}),
            Turn("assistant", str(answer), trained=True),
        ]
    instruction, input_text = text(row, "instruction"), optional_text(row, "input")
    question = f"{instruction}\n{input_text}" if input_text else instruction
    turns.append(Turn("user", question, extra={"instruction": instruction, "input": input_text}))
    return turns + ([Turn("assistant", text(row, "output"), trained=True)] if answered else [])


def completion_turns(row: Row, answered: bool) -> list[Turn]:
    """Convert a prompt and (if `answered`) a completion, both strings or both lists of messages, to turns.

    Only the completion's answers are trained. A missing column or a malformed message raises DataError.
    """
    if isinstance(row.values.get("prompt"), list):
        prompt_turns = [replace(turn, trained=False) for turn in turns_of_messages(row, "prompt")]
        return prompt_turns + (turns_of_messages(row, "completion") if answered else [])
    prompt = Turn("user", text(row, "prompt"))
    return [prompt] + ([Turn("assistant", text(row, "completion"), trained=True)] if answered else [])


def text_turns(row: Row, answered: bool) -> list[Turn]:
    """Return a row's text as one untrained user turn; without one, DataError. `answered` is unused."""
    return [Turn("user", text(row, "text"))]


def sharegpt_turns(row: Row, answered: bool) -> list[Turn]:
    """Convert a column `conversations` of {from, value} to turns, or raise a DataError; see `build_turn`."""
    turns = []
    for message in messages_of(row, "conversations"):
        name, content = message.get("from"), message.get("value")
        if not isinstance(name, str) or not isinstance(content, str):
            raise DataError(
                f"{row.where}: a turn must have the texts 'from' and 'value', not {short(message)}"
            )
        turns.append(build_turn(name, content, without_keys(message, "from", "value"), row.where))
    return turns


def message_turns(row: Row, answered: bool) -> list[Turn]:
    """Convert `messages` of {role, content} to turns, or raise DataError; `answered` is unused."""
    return turns_of_messages(row, "messages")


def turns_of_messages(row: Row, column: str) -> list[Turn]:
    """Convert a column of {role, content} to turns (see `build_turn`), or raise a DataError."""
    turns = []
    for message in messages_of(row, column):
        name, content = message.get("role"), content_text(message.get("content"))
        if not isinstance(name, str) or content is None:
            raise DataError(
                f"{row.where}: a message must have a 'role' and a 'content', not {short(message)}"
            )
        turns.append(build_turn(name, content, without_keys(message, "role", "content"), row.where))
    return turns


TURNS: dict[DataFormat, Callable[[Row, bool], list[Turn]]] = {
    DataFormat["alpaca"]: alpaca_turns,
    DataFormat["prompt-completion"]: completion_turns,
    DataFormat["sharegpt"]: sharegpt_turns,
    DataFormat["messages"]: message_turns,
    DataFormat["text"]: text_turns,
}


def without_keys(message: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Return a copy of a message without the fields `keys` and without fields whose value `is_blank`."""
    return {name: value for name, value in message.items() if name not in keys and not is_blank(value)}


def is_blank(value: Any) -> bool:
    """Return whether a value is null, or an empty text, list or object."""
    return value is None or (isinstance(value, str | list | dict) and not value)


def build_turn(name: str, content: str, extra: Mapping[str, Any], where: str) -> Turn:
    """Build a turn from its role as the data set writes it (such as `gpt`), its text and its other fields.

    Answers are trained unless a flag in `extra` masks them. Raise a DataError if role or flags are wrong.
    """
    role = ROLES.get(name)
    if role is None:
        raise DataError(f"{where}: unknown role {name!r} (known: {', '.join(ROLES)})")
    trained = train_flag(extra, where)
    if role == "assistant" or not trained:
        extra = without_keys(extra, *TRAIN_FLAGS)  # the flag stays on a question, to be reported as unread
    return Turn(role, content, trained=role == "assistant" and trained is not False, extra=extra)


def train_flag(extra: Mapping[str, Any], where: str) -> bool | None:
    """Return the value of the flag (`weight`, `train` or `loss`) in a turn's fields; None: there is no flag.

    Raises:
        DataError: A flag is neither true nor false, or two flags contradict each other.
    """
    flags = {name: extra[name] for name in TRAIN_FLAGS if name in extra}
    for name, flag in flags.items():
        if not isinstance(flag, bool | int | float) or flag not in (0, 1):
            raise DataError(
                f"{where}: {name!r} of a turn must be true or false (or 1 or 0), not {short(flag)}"
            )
    if len({bool(flag) for flag in flags.values()}) > 1:
        written = ", ".join(f"{name}: {short(flag)}" for name, flag in flags.items())
        raise DataError(f"{where}: the flags of a turn contradict each other, {written} (remove one of them)")
    return bool(next(iter(flags.values()))) if flags else None


def with_one_system_turn(row: Row, turns: list[Turn], chat: bool) -> tuple[list[Turn], list[str]]:
    """Return the turns with the text of the column `system` as first turn, and notes on what was dropped.

    If the first turn is another system turn, which isn't blank, the column is ignored. A system turn that
    repeats the one before it is dropped. Without `chat`, turns aren't changed, and a note says if there is
    a column that isn't read. A `system` that isn't a string raises DataError.
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
    unique = [turn for turn, before in zip(turns, [None, *turns], strict=False) if not repeats(turn, before)]
    return unique, notes + ([SYSTEM_TWICE] if len(unique) < len(turns) else [])


def repeats(turn: Turn, before: Turn | None) -> bool:
    """Return whether a system turn has the same text as a system turn directly before it."""
    if before is None or not turn.role == before.role == "system":
        return False
    return turn.text.strip() == before.text.strip()


def messages_of(row: Row, column: str) -> list[dict[str, Any]]:
    """Return the list of messages in a column; raise a DataError unless it is a non-empty list of objects."""
    turns = value(row, column)
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        name = row.own_name(column)
        raise DataError(f"{row.where}: column {name!r} must be a list of turns, not {short(turns)}")
    return turns


def content_text(content: Any) -> str | None:
    """Return a message's content as text: "" for None, text blocks joined; None for other blocks or types."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return None
    texts = [
        block.get("text") for block in content if isinstance(block, dict) and block.get("type") == "text"
    ]
    return "".join(map(str, texts)) if len(texts) == len(content) else None


def check_order(turns: list[Turn], where: str, answered: bool) -> None:
    """Refuse two user or two assistant turns in a row, empty trained answers, and no turns at all.

    Raises:
        DataError: A turn is wrong, or (if `answered`) the last turn isn't an answer.
    """
    previous = None
    for number, turn in enumerate(turns, start=1):
        if turn.role == previous and turn.role in ("user", "assistant"):
            raise DataError(f"{where}: turns {number - 1} and {number} are both from the {turn.role}")
        if turn.trained and not turn.text.strip() and "tool_calls" not in turn.extra:
            raise DataError(f"{where}: the answer in turn {number} is empty")
        previous = turn.role
    if answered and previous != "assistant":
        raise DataError(f"{where}: the last turn is from the {previous} and has no answer")
    if not answered and previous is None:
        raise DataError(f"{where}: no turn to answer")


def with_shuffled_answers(conversations: Sequence[Conversation], seed: int) -> list[Conversation]:
    """Return copies in which the trained answers, with their extra fields, are permuted among all prompts."""
    answers = [(turn.text, turn.extra) for example in conversations for turn in example.turns if turn.trained]
    random.Random(seed).shuffle(answers)
    shuffled = iter(answers)

    def with_next_answer(turn: Turn) -> Turn:
        text, extra = next(shuffled)
        return replace(turn, text=text, extra=extra)

    return [
        replace(
            example,
            turns=tuple(with_next_answer(turn) if turn.trained else turn for turn in example.turns),
        )
        for example in conversations
    ]
