"""Regular expressions of a tokenizer.json that take no end of time, and those of well-known tokenizers."""

import json

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from workbench.errors import CheckpointError
from workbench.models.tokenizers import patterns as tokenizer_patterns
from workbench.models.tokenizers.load_tokenizer import read_tokenizer
from workbench.models.tokenizers.patterns import KNOWN, slow_pattern

GPT_4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
    r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SOUND = [GPT_4O, DEEPSEEK, "[一-龥぀-ゟ゠-ヿ]+", r"\w+|[^\w\s]+", r"(\s|[.,!?])+"]
SLOW = [r"(a+)+$", r"(\w+\s?)+$", r"(x+x+)+y", r"(?:\w|\w\w){1,27}(?=[!-/]{7})"]


def written(folder, *, split=None, replace=None):
    """A tokenizer.json with a pattern."""
    made = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    if split:
        made.pre_tokenizer = pre_tokenizers.Split(Regex(split), "isolated")
    if replace:
        made.normalizer = normalizers.Replace(Regex(replace), " ")
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"})
    )
    return folder


@pytest.mark.parametrize("pattern", SLOW)
def test_a_pattern_that_takes_too_long_is_named_before_the_tokenizer_is_used(tmp_path, monkeypatch, pattern):
    monkeypatch.setattr(tokenizer_patterns, "MAX_SECONDS", 8.0)
    for how in ("split", "replace"):
        with pytest.raises(CheckpointError) as caught:
            read_tokenizer(written(tmp_path / how, **{how: pattern}))
        assert "tokenizer.json: the regular expression" in str(caught.value)
        assert "takes too long" in str(caught.value)


def test_the_patterns_of_well_known_tokenizers_are_fast():
    assert slow_pattern([*SOUND, *sorted(KNOWN)]) is None


def test_a_known_pattern_starts_no_process(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizer_patterns, "run_trial", None)
    for number, pattern in enumerate(sorted(KNOWN)):
        assert read_tokenizer(written(tmp_path / str(number), split=pattern))("a").input_ids


def test_a_sound_pattern_of_ones_own_is_taken(tmp_path):
    assert read_tokenizer(written(tmp_path, split=SOUND[0]))("a").input_ids == [0]
