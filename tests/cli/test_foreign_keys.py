"""Keys, flags and options of other tools are answered with how they are written here."""

import pytest

from workbench.cli.arguments import prepare
from workbench.cli.foreign_keys import FOREIGN_KEYS, KEYS, OPTIONS, alphanumeric, key_here
from workbench.cli.foreign_words import group_options
from workbench.cli.key_types import all_keys, choices, groups, kind_of
from workbench.cli.unknown_keys import known_keys
from workbench.errors import ConfigError


def options_of(key: str) -> list[str]:
    return group_options(key) if key in groups() else choices(key)


def test_each_key_of_the_table_is_one_of_ours_and_each_foreign_name_stands_once():
    names = [name for foreign in KEYS.values() for name in foreign.split()]
    assert len(names) == len(set(names)) > 150
    for ours in KEYS:
        key, equals, value = ours.partition("=")
        assert key in set(all_keys()), key
        assert not equals or value in options_of(key) or value == "true", ours


def test_no_key_of_ours_is_taken_for_another_tool_s():
    assert not {key for key, _ in known_keys()} & set(FOREIGN_KEYS)
    assert not groups() & set(FOREIGN_KEYS) - {"tokenizer"}


def test_each_option_of_the_table_is_one_of_ours_and_each_spelling_is_plain():
    for key, spellings in OPTIONS.items():
        assert set(spellings) <= set(options_of(key)), key
        for spelling in " ".join(spellings.values()).split():
            assert spelling == alphanumeric(spelling), spelling


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("--model_name_or_path X", "here it is model.path=X"),
        ("--model-name-or-path=X", "here it is model.path=X"),
        ("base_model=X", "here it is model.path=X"),
        ("--recipe sft", "here it is recipe=sft"),
        ("sft", "here it is recipe=sft"),
        ("train", "here it is recipe=sft"),
        ("eval", "here it is recipe=evaluate"),
        ("recipe=SFT", "here it is recipe=sft"),
        ("train.lr=1e-4", "here it is train.learning_rate=1e-4"),
        ("lora_rank=8", "here it is adapter.rank=8"),
        ("adapter.lora_alpha=8", "here it is adapter.alpha=8"),
        ("--lora_target q_proj,v_proj", "here it is 'adapter.target_modules=[q_proj,v_proj]'"),
        ("--per_device_train_batch_size 4", "here it is train.per_device_batch_size=4"),
        ("num_train_epochs=3", "here it is train.num_epochs=3"),
        ("--output_dir out", "here it is run_dir=out"),
        ("dataset=my.json", "here it is data.path=my.json"),
        ("cutoff_len=512", "here it is data.max_length=512"),
        ("--tasks cmmlu,ceval", "here it is 'benchmark=[cmmlu,ceval]'"),
        ("--model_args pretrained=X,dtype=bfloat16", "here it is model.path=X model.dtype=bfloat16"),
        ("lora_target=q_proj,v_proj", "here it is 'adapter.target_modules=[q_proj,v_proj]'"),
        ("--lora_target all", "here it is 'adapter.target_modules=[all-linear]'"),
        ("adapter.target_modules=all", "as in 'adapter.target_modules=[all-linear]'"),
        ("quantization_bit=8", "here it is quantization=int8"),
        ("bnb_4bit_quant_type=fp4", "here it is quantization=fp4"),
        ("flash_attn=fa2", "here it is model.attention=flash_attention_2"),
        ("template=qwen", "here it is data.template=auto"),
        ("template=alpaca", "here it is data.template=alpaca"),
        ("tasks=cmmlu,ceval", "here it is 'benchmark=[cmmlu,ceval]'"),
        ("recipe=board", "here it is recipe=leaderboard"),
        ("lora_rank=8 dataset=a", "no such keys (here they are data.path=a adapter.rank=8)"),
        ("--lora_rank 8 --dataset a", "no such flags (here they are data.path=a adapter.rank=8)"),
        ("load_in_4bit=true", "here it is quantization=nf4"),
        ("--load_in_8bit", "here it is quantization=int8"),
        ("--seed 3", "here it is seed=3"),
        ("--train.max_steps=3", "here it is train.max_steps=3"),
        ("--quantization 4bit", "here it is quantization=nf4"),
        ("--trust_remote_code", "here it is trust_code=true"),
        ("quantization=4bit", "here it is quantization=nf4"),
        ("quantization=NF4", "here it is quantization=nf4"),
        ("quantization=INT8", "here it is quantization=int8"),
        ("quantization=None", "here it is quantization=none"),
        ("adapter=LoRA", "here it is adapter=lora"),
        ("adapter=qlora", "here it is adapter=lora"),
        ("adapter=LoHa", "here it is adapter.method=loha"),
        ("finetuning_type=oft", "here it is adapter.method=oft"),
        ("benchmark=[CMMLU]", "here it is benchmark=cmmlu"),
        ("benchmark=[c3,c-eval]", "here it is benchmark=ceval"),
        ("model.dtype=bf16", "here it is model.dtype=bfloat16"),
        ("model.device=cuda:0", "here it is model.device=cuda"),
        ("train.lr_scheduler=Cosine", "here it is train.lr_scheduler=cosine"),
        ("model=meta-llama/Llama-3", "model.path=meta-llama/Llama-3"),
        ("--lerning_rate 1", "did you mean train.learning_rate=...?"),
        ("per_device_eval_batch_size=4", "it counts rows; here evaluate.batch_tokens counts tokens"),
        ("--per_device_eval_batch_size 4", "it counts rows; here evaluate.batch_tokens counts tokens"),
        ("--val_size 500", "it counts rows; here a share of the rows is held out"),
        ("--frobnicate", "values are given as KEY=VALUE"),
    ],
)
def test_habits_of_other_tools_are_answered_in_one_line(words, answer):
    with pytest.raises(ConfigError) as error:
        prepare(words.split())
    assert answer in str(error.value) and "\n" not in str(error.value)


def test_a_key_of_another_section_is_not_taken_for_one_of_this_section():
    assert key_here("train.lr") == "train.learning_rate" and key_here("adapter.lr") is None


def test_the_kinds_of_keys():
    assert kind_of("data.columns.text").name == kind_of("benchmarks.NAME.path").name == "text"
    assert kind_of("data.labels").name == kind_of("benchmarks.a.groups").name == "texts"
    assert kind_of("train.max_steps").name == "other" and kind_of("train").name == "section"
    assert kind_of("train.nothing") is None and kind_of("data.path.x") is None
