"""What is typed is what the configuration holds."""

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from workbench.cli.arguments import prepare
from workbench.errors import ConfigError

TEXTS = [
    *("数据.jsonl", "模型目录", "/home/张三/模型/基座", "我的 数据/训练 集.csv", "评论", "“引号”"),
    *("，。、：；！？", "run=1/data.jsonl", "a=b=c", "=leading", "a,b.jsonl", ",", "a, b"),
    *("(copy).jsonl", "model (1)", "f(x)", "choice(a,b)", "range(1,3)", "data{1}.json", "{a: b}"),
    *("{a", "}", "[a,b]", "[unclosed", "]", "#1.csv", "a#b", "it's.jsonl", "'", '"', '"half'),
    *("half'", 'don\'t "do" that', 'say "hi"', "'a' and 'b'", "''a''", "a\\b", "C:\\data\\x.json"),
    *("C:\\data\\", "\\", "\\\\", "\\'", "ends\\'", "'\\", "a\\\\'b\\", "\\[x\\]", "1e5", "1E-5"),
    *("12e34567", "007", "0", "-1", "+1", "1_000", "3.14", ".5", "5.", "0x10", "1:30"),
    *("2024-01-01", "inf", "-inf", "nan", "NaN", "True", "false", "TRUE", "yes", "no", "on", "off"),
    *("Null", "NULL", "None", "nullable", "null.csv", "null ", "~", "~user/x", "a~/b", "@file"),
    *("@", "!x", "!!python/none", "%20", "100%", "a&b", "a;b", "a|b", "a>b", "a*b?", "$HOME", "$"),
    *("a$b", "a${b", "${", "$}", "x${ }", "a`b`", "{{ question }}", "{% if a %}b{% endif %}"),
    *("{{ x | default('') }}", "https://host:8080/a?b=c&d=e#f", "hf://datasets/a/b@main", "a:b"),
    *(":", "a : b", "-x", "--flag", "- x", "+x", ".", "..", "./a", "a/../b"),
    *("Ｆｕｌｌ\u3000ｗｉｄｔｈ", "données_été.csv", "データ.json", "😀.txt", "é", "\u200b"),
    *("a\tb", "a\nb", " leading", "trailing ", " ", "*", "&x", "<s>", "</s>", "<|im_end|>", "? a"),
    *("a: b", "- a", "|", ">"),
]
"""Values of text keys; each must arrive as it stands here."""


def test_a_text_key_holds_the_text_that_was_typed(composed):
    words = [f"data.columns.k{number}={text}" for number, text in enumerate(TEXTS)]
    columns = composed("recipe=sft", *words).data.columns
    assert len(TEXTS) > 100
    assert [columns[f"k{number}"] for number in range(len(TEXTS))] == TEXTS


@pytest.mark.parametrize("text", ["数 据=1,2.jsonl", "12e34567", "don't"])
def test_every_kind_of_text_key_does(composed, text):
    keys = (
        "model.path",
        "data.path",
        "model.revision",
        "benchmarks.toy_text_en.path",
        "run_dir",
        "predict.input",
    )
    words = [f"{key}={text}" for key in keys]
    config = composed("recipe=quickstart", "benchmark=[toy_text_en]", *words)
    assert {OmegaConf.select(config, key) for key in keys} == {text}


def test_a_list_of_texts_holds_the_texts_that_were_typed(composed):
    texts = [text for text in TEXTS if not set(text) & set(",'\"[]{}()") and text == text.strip()]
    config = composed("recipe=quickstart", f"data.labels=[{','.join(texts)}]")
    assert len(texts) > 80 and config.data.labels == texts


def test_a_list_of_templates_and_a_mapping_of_texts_need_no_quotes(composed):
    words = ("benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.choices=[{{ A }}, '{{ a, b }}', 丙]")
    config = composed("recipe=quickstart", *words, "data.columns={prompt: 问题, completion: 1e5}")
    assert config.benchmarks.toy_choice_en.choices == ["{{ A }}", "{{ a, b }}", "丙"]
    assert config.data.columns == {"prompt": "问题", "completion": "1e5"}


def test_null_nothing_quotes_and_interpolations_are_hydra_s_own(composed):
    config = composed(
        *("recipe=sft", "model.path=null", "data.path=", "model.revision='a b'", 'data.columns.text="1"'),
        *("model.tokenizer=${model.revision}/x", "model.pad_token=\\${x}", "data.subset='it\\'s'"),
    )
    assert (config.model.path, config.data.path, config.model.revision) == (None, "", "a b")
    assert (config.data.columns.text, config.model.tokenizer) == ("1", "a b/x")
    assert (config.model.pad_token, config.data.subset) == ("${x}", "it's")


def test_numbers_enums_and_groups_are_read_as_ever(composed):
    config = composed("recipe=sft", "train.learning_rate=1e-4", "force=True", "quantization=nf4", "seed=7")
    assert (config.train.learning_rate, config.force, config.seed) == (1e-4, True, 7)
    assert (
        config.quantization.method.name == "nf4"
        and composed("recipe=sft").data.validation_fraction is not True
    )


def test_words_inside_brackets_that_hydra_cannot_read_are_quoted(composed):
    sources = "data.sources={甲乙: {path: 数据.json}}".replace("甲乙", "a")
    config = composed("recipe=sft", sources, "model.init={hidden_size: 64, act: 激活, list: [1, 二]}")
    assert config.data.sources.a.path == "数据.json"
    assert config.model.init == {"hidden_size": 64, "act": "激活", "list": [1, "二"]}


def test_the_home_folder_is_meant_by_a_leading_tilde(composed, monkeypatch):
    monkeypatch.setenv("HOME", "/home/张三")
    config = composed("recipe=sft", "model.path=~/模型", "data.path=a~/b", "evaluate.models=[base]")
    assert (config.model.path, config.data.path) == ("/home/张三/模型", "a~/b")


def points(*words):
    """The values of each point of a sweep, as Hydra's own sweeper makes them."""
    _, overrides = prepare(["-m", *words])
    parsed = OverridesParser.create().parse_overrides(overrides)
    (batch,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    read = [OverridesParser.create().parse_overrides(list(point)) for point in batch]
    return [tuple(override.value() for override in point) for point in read]


def test_a_sweep_parts_texts_at_commas_outside_quotes_and_brackets():
    paths = [path for (path,) in points("model.path=模型 一,1e5,'a,b',f(x,y),{a,b}")]
    assert paths == ["模型 一", "1e5", "a,b", "f(x,y)", "{a,b}"]
    assert points("model.path=choice(甲,1e5)", "seed=1,2") == [("甲", 1), ("甲", 2), ("1e5", 1), ("1e5", 2)]
    assert points("data.labels=[好,1],[坏]") == [(["好", "1"],), (["坏"],)]
    assert points("model.path=it's,(a,C:\\x\\,null") == [("it's",), ("(a",), ("C:\\x\\",), (None,)]


def test_flags_of_hydra_may_stand_anywhere():
    words = ["recipe=sft", "--cfg", "job", "seed=1", "-m", "--config-dir=x"]
    with pytest.raises(ConfigError, match="--multirun: excludes --cfg"):
        prepare(words)
    assert prepare(["recipe=sft", "--cfg", "job", "seed=1"]) == (["--cfg=job"], ["recipe=sft", "seed=1"])
    assert prepare(["seed=1,2", "-m", "--config-dir=x"]) == (["--multirun", "--config-dir=x"], ["seed=1,2"])
    assert prepare(["recipe=sft", "--info", "seed=1"]) == (["--info"], ["recipe=sft", "seed=1"])


def test_hydra_s_own_keys_are_left_alone():
    words = ["hydra.run.dir=a b", "hydra/launcher=joblib", "hydra.sweep.dir=数据"]
    assert prepare(words)[1] == words


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["数据=x"], "'数据=x': '数据' is not a key"),
        (["data.path", "=", "x"], "'data.path': not KEY=VALUE"),
        (["=x"], "'=x': no key before the ="),
        (["data.labels=好,坏"], "data.labels: a list is needed, as in 'data.labels=\\[好,坏\\]'"),
        (["data.columns=[a]"], "data.columns: a mapping is needed"),
        (["seed=1,2"], "seed: several values, '1,2', need a sweep"),
        (["benchmark=a,b"], "benchmark: several values must be a list, 'benchmark=\\[a,b\\]'"),
        (["model.init={层: 1}"], "model.init: can't be read"),
        (["train=null"], "train: null is not an option"),
        (["model=[native]"], "model: '\\[native\\]' is a list"),
        (["--cfg"], "--cfg: its value is missing"),
        (["--cfg", "all_of_it"], "--cfg: unknown value 'all_of_it' \\(known: job, hydra, all\\)"),
        (["--resolve"], "--resolve: needs --cfg job"),
        (["--experimental-rerun", "a.pkl"], "--experimental-rerun: no such flag"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(words, answer):
    with pytest.raises(ConfigError, match=answer) as error:
        prepare(words)
    assert "\n" not in str(error.value)
