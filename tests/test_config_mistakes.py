import pytest

from workbench.cli.unknown_keys import known_keys, meant, nearest_keys, plainly


@pytest.mark.parametrize(
    ("key", "first"),
    [
        ("adapter.ranks", "adapter.rank"),
        ("benchmarks.cmmlu.limt", "benchmarks.cmmlu.limit"),
        ("benchmarks.mine.protocols.own.averag", "benchmarks.mine.protocols.own.average"),
        ("data.sources.a.wieght", "data.sources.a.weight"),
        ("evaluate.fewshotseed", "evaluate.fewshot_seed"),
        ("learning_rate", "train.learning_rate"),
        ("merge.dtyp", "merge.dtype"),
        ("quantisation", "quantization"),
        ("recpie", "recipe"),
        ("train.batch_size", "train.per_device_batch_size"),
        ("train.max_length", "data.max_length"),
    ],
)
def test_the_key_that_is_meant_comes_first(key, first):
    assert nearest_keys(key)[0] == first


def test_a_word_that_is_like_no_key_gets_the_keys_of_its_section():
    assert nearest_keys("predict.zzz") == []
    assert meant("adapter.r", "r", "AdapterConfig").startswith("known: method, ")
    assert meant("predict.zzz", "zzz", "PredictConfig").startswith("known: input, ")


def test_of_a_mistyped_section_the_key_in_it_is_proposed():
    assert meant("modle.path", "modle", "Config") == "did you mean model.path?"
    assert meant("benchmark.limit", "benchmark", "Config") == "did you mean benchmarks?"
    assert meant("data.sources", "wieght", "SourceConfig") == "did you mean data.sources.NAME.weight?"
    assert meant("", "lerning_rate", "TrainConfig") == "did you mean train.learning_rate?"


def test_every_section_s_keys_are_known():
    known = dict(known_keys())
    assert known["train.max_steps"] == "TrainConfig" and known["seed"] == "Config"
    assert known["benchmarks.NAME.generation.max_new_tokens"] == "GenerationConfig"


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (
            "Invalid type assigned: NoneType is not a subclass of str. value: None",
            "quote a text, as in 'null'",
        ),
        ("Key False (bool) is incompatible with (str)", "quote a name, as in 'no'"),
        ("Key True (bool) is incompatible with (str)", "quote a name, as in 'yes'"),
    ],
)
def test_a_text_that_yaml_reads_as_something_else_is_to_be_quoted(words, way_out):
    assert way_out in plainly(f"In 'benchmark/own': {words}", lambda group: [])
