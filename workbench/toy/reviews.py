"""Generates everyday sentences, and reviews in which a negation reverses the meaning."""

import hashlib
from dataclasses import dataclass
from itertools import product
from random import Random

HELD_OUT_SHARE = 4
"""One in this many reviews is held out for the benchmark."""


@dataclass(frozen=True)
class Words:
    """Words of one language, and templates of sentences with {thing}, {place}, {word}, {person}, {negation}.

    `good` and `bad` are adjectives, `people` names. A `review` has one adjective, with or without `negation`;
    `happy` or `sad` follows it. `everyday` is a sentence without a judgment.
    """

    things: tuple[str, ...]
    good: tuple[str, ...]
    bad: tuple[str, ...]
    places: tuple[str, ...]
    people: tuple[str, ...]
    review: str
    negation: str
    happy: str
    sad: str
    everyday: str


WORDS = {
    "en": Words(
        things=(
            "soup",
            "bread",
            "tea",
            "cake",
            "fish",
            "rice",
            "lamp",
            "chair",
            "coat",
            "book",
            "boat",
            "song",
        ),
        good=("good", "fine", "lovely", "fresh", "pretty", "great"),
        bad=("bad", "poor", "awful", "stale", "ugly", "dull"),
        places=("at the market", "in the park", "by the river", "on the hill", "at school", "in town"),
        people=("Ann", "Tom", "Lily", "Ben", "Mary", "Jack"),
        review="The {thing} {place} was {negation}{word}.",
        negation="not ",
        happy=" So {person} was happy.",
        sad=" So {person} was sad.",
        everyday="{person} sees the {thing} {place}.",
    ),
    "zh": Words(
        things=("汤", "面包", "茶", "蛋糕", "鱼", "米饭", "灯", "椅子", "外套", "书", "船", "歌"),
        good=("好", "不错", "可爱", "新鲜", "漂亮", "棒"),
        bad=("坏", "糟", "可怕", "陈旧", "难看", "无聊"),
        places=("市场上", "公园里", "河边", "山上", "学校里", "城里"),
        people=("小明", "小红", "丽丽", "阿强", "小华", "小军"),
        review="{place}的{thing}{negation}{word}。",
        negation="一点也不",
        happy="所以{person}高兴。",
        sad="所以{person}难过。",
        everyday="{person}看见{place}的{thing}。",
    ),
}


@dataclass(frozen=True)
class Review:
    """A generated review and its class, positive or negative."""

    text: str
    positive: bool
    language: str

    @property
    def label(self) -> str:
        """Name of the review's class, as in the data files."""
        return "positive" if self.positive else "negative"


def reviews(language: str) -> tuple[list[Review], list[Review]]:
    """Generate all reviews of a language, en or zh; return (those for training, those for the benchmark)."""
    words = WORDS[language]
    splits: tuple[list[Review], list[Review]] = ([], [])
    for thing, place, word, negated in product(
        words.things, words.places, words.good + words.bad, (False, True)
    ):
        negation = words.negation if negated else words.negation[:0]
        text = words.review.format(thing=thing, place=place, word=word, negation=negation)
        held_out = hashlib.sha256(text.encode()).digest()[0] % HELD_OUT_SHARE == 0
        splits[held_out].append(Review(text, (word in words.good) != negated, language))
    return splits


def sentence(rng: Random, language: str, used_reviews: list[Review]) -> str:
    """Generate pretraining text: one of `used_reviews` with the mood that it causes, or an everyday one."""
    words = WORDS[language]
    person = rng.choice(words.people)
    if rng.random() < 0.5:
        review = rng.choice(used_reviews)
        return review.text + (words.happy if review.positive else words.sad).format(person=person)
    return words.everyday.format(
        person=person, thing=rng.choice(words.things), place=rng.choice(words.places)
    )
