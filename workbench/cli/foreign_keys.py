"""Translates keys, flags and options of other tools into this program's ("ours").

The names come from the documentation of LLaMA-Factory, axolotl, TRL with transformers' TrainingArguments,
PEFT, bitsandbytes, lm-evaluation-harness and OpenCompass.
"""

from typing import Any

from workbench.config.data import TEMPLATE_ENDINGS, Template

KEYS = {
    "model.path": "model_name_or_path model_name base_model base_model_name_or_path pretrained model_id "
    "model_path pretrained_model_name_or_path name_or_path hf_path checkpoint ckpt model_dir",
    "model.revision": "model_revision revision_of_model main_revision",
    "model.tokenizer": "tokenizer_name tokenizer_path tokenizer_name_or_path tokenizer_config tokenizer_dir",
    "model.dtype": "torch_dtype precision infer_dtype dtype half_precision",
    "model.dtype=bfloat16": "bf16 pure_bf16",
    "model.dtype=float16": "fp16",
    "model.device": "device device_map export_device",
    "model.attention": "attn_implementation flash_attn attention_implementation use_flash_attention_2",
    "model.attention=flash_attention_2": "flash_attention",
    "model.compile": "torch_compile use_torch_compile compile_model use_compile",
    "model.loss=liger": "use_liger_kernel enable_liger_kernel liger_fused_linear_cross_entropy liger_kernel",
    "model.tf32": "tf32 allow_tf32 enable_tf32",
    "model.attention=sdpa": "sdp_attention",
    "model.attention=xformers": "xformers_attention",
    "model.pad_token": "pad_token special_tokens",
    "quantization": "quantization_method quantization_bit bnb_4bit_quant_type quant quantize bits",
    "quantization=nf4": "load_in_4bit use_4bit load_4bit",
    "quantization=int8": "load_in_8bit use_8bit load_8bit",
    "quantization.double_quant": "double_quantization use_nested_quant bnb_4bit_use_double_quant",
    "quantization.compute_dtype": "bnb_4bit_compute_dtype",
    "adapter": "finetuning_type peft_type use_peft use_lora tuner train_type",
    "adapter.path": "adapter_name_or_path lora_model_dir peft_path adapter_path lora_path peft ckpt_dir",
    "adapter.rank": "lora_rank lora_r r lora_dim",
    "adapter.alpha": "lora_alpha",
    "adapter.dropout": "lora_dropout",
    "adapter.target_modules": "lora_target lora_target_modules target_module lora_target_linear",
    "adapter.modules_to_save": "additional_target lora_modules_to_save",
    "adapter.use_rslora": "use_rslora rslora peft_use_rslora",
    "adapter=dora": "use_dora peft_use_dora",
    "adapter.init=pissa": "pissa_init",
    "data.path": "dataset datasets dataset_name dataset_dir train_file data_path train_data data_file "
    "dataset_path",
    "data.subset": "dataset_config dataset_config_name",
    "data.split": "dataset_train_split train_split",
    "data.max_length": "cutoff_len max_seq_length max_seq_len sequence_len model_max_length block_size",
    "data.template": "chat_template template prompt_template conversation_template",
    "data.template_arguments": "chat_template_kwargs chat_template_args enable_thinking",
    "data.packing": "sample_packing pack",
    "data.validation_fraction": "val_size val_set_size validation_split eval_split "
    "validation_split_percentage",
    "data.limit": "max_samples max_train_samples num_samples",
    "data.streaming": "stream",
    "train.learning_rate": "lr learning_rate base_lr",
    "train.lora_plus_ratio": "loraplus_lr_ratio",
    "train.lr_scheduler": "lr_scheduler_type scheduler",
    "train.warmup_steps": "warmup_ratio num_warmup_steps warmup",
    "train.num_epochs": "num_train_epochs epochs num_epochs epoch n_epochs",
    "train.max_steps": "max_train_steps steps_max num_steps iters",
    "train.per_device_batch_size": "per_device_train_batch_size micro_batch_size train_batch_size batch_size "
    "per_gpu_train_batch_size",
    "train.gradient_accumulation_steps": "gradient_accumulation grad_accum accumulation_steps",
    "train.gradient_checkpointing": "use_gradient_checkpointing grad_checkpoint",
    "train.activation_offloading": "enable_activation_offloading",
    "train.optimizer": "optim optimizer_name optimizer_type",
    "train.weight_decay": "wd",
    "train.max_grad_norm": "gradient_clipping clip_grad_norm grad_clip",
    "train.save_steps": "save_interval saves_per_epoch",
    "train.save_total_limit": "max_checkpoints",
    "train.logging_steps": "log_interval log_every logging_interval",
    "train.report_to": "logger use_wandb wandb_project",
    "train.patience": "early_stopping_patience",
    "train.keep=best": "load_best_model_at_end",
    "train.group_by_length": "group_by_len",
    "seed": "random_seed data_seed random_state",
    "run_dir": "output_dir output_path work_dir save_dir logging_dir out_dir output",
    "force": "overwrite_output_dir overwrite",
    "benchmark": "tasks task eval_tasks benchmarks_to_run lm_eval_tasks",
    "benchmarks.NAME.num_fewshot": "num_fewshot n_shot fewshot shots",
    "benchmarks.NAME.limit": "max_eval_samples limit",
    "benchmarks.NAME.include_path": "include_path",
    "benchmarks.NAME.generation.stop": "until stop_words",
    "benchmarks.NAME.gen_kwargs": "gen_kwargs generation_kwargs",
    "evaluate.temperature": "temperature",
    "evaluate.top_p": "top_p",
    "evaluate.top_k": "top_k",
    "evaluate.repetition_penalty": "repetition_penalty repeat_penalty",
    "predict.max_new_tokens": "max_new_tokens max_out_len max_gen_toks",
    "evaluate.chat_template=true": "apply_chat_template",
    "evaluate.system": "system_instruction system_prompt system_message",
    "evaluate.fewshot_as_turns": "fewshot_as_multiturn",
    "evaluate.fewshot_seed": "fewshot_as_seed",
    "export.path": "export_dir merge_output_dir",
    "export.max_shard_size": "export_size",
    "recipe": "stage job command",
    "recipe=sft": "do_train finetune",
    "recipe=evaluate": "do_eval eval",
    "recipe=predict": "do_predict infer",
    "recipe=chat": "interactive",
    "recipe=serve": "server",
    "serve.port": "server_port api_port",
    "serve.host": "server_name api_host",
    "recipe=merge": "merge_lora merge_and_unload",
    "trust_code=true": "trust_remote_code confirm_run_unsafe_code",
}
"""Our key, or our KEY=VALUE -> its names in other tools, separated by spaces."""

OPTIONS = {
    "quantization": {
        "nf4": "4bit int4 4 bnb bnb4bit bitsandbytes q4 w4 qlora",
        "int8": "8bit 8 bnb8bit llmint8 q8 w8",
        "fp4": "4bitfp fp4bit",
        "none": "no false off fp16 bf16 fp32 float16 bfloat16 16bit 16 full",
    },
    "adapter": {"lora": "qlora peft rslora loraplus true", "none": "full fullfinetuning no false off"},
    "recipe": {
        "sft": "finetune train tune lora qlora finetuning",
        "evaluate": "eval test benchmark score",
        "predict": "infer inference generate",
        "chat": "talk converse interactive cli",
        "serve": "server api openai deploy",
        "leaderboard": "board rank",
        "merge": "mergelora",
        "export": "convert",
    },
    "model.dtype": {
        "bfloat16": "bf16 torchbfloat16",
        "float16": "fp16 half torchfloat16",
        "float32": "fp32 float full torchfloat32 single",
    },
    "train.optimizer": {
        "adamw_torch_fused": "adamw adamwfused fused adam",
        "adamw_8bit": "adamwbnb8bit adam8bit 8bit",
        "paged_adamw_32bit": "pagedadamw paged",
        "lion_32bit": "lion",
    },
    "model.device": {"cuda": "gpu cuda0 0"},
    "model.task": {"causal_lm": "clm lm textgeneration", "sequence_classification": "seqcls classification"},
    "model.attention": {
        "flash_attention_2": "fa2 flashattn flash flashattn2 flashattention",
        "eager": "disabled",
    },
    "data.format": {
        "messages": "openai chatml chat chatmlmessages",
        "sharegpt": "sharegpt4",
        "text": "pretrain pt",
    },
    "data.template": {"auto": "default tokenizerdefault", "plain": "none empty"},
    "train.lr_scheduler": {"cosine": "cosinewithrestarts", "constant": "constantwithwarmup"},
}
"""Key or group -> our option -> other spellings, in lower case without `-` and `_`."""

LIST_WORDS = {("adapter.target_modules", "all"): "all-linear", ("train.report_to", "none"): ""}
"""(Key that takes a list, another tool's word) -> our word."""

STAGES = {"sft": "recipe=sft", "pt": "recipe=sft data.format=text"}
"""Value of LLaMA-Factory's key `stage` -> our overrides."""

OTHER_STAGES = ("dpo", "rm", "kto", "ppo", "orpo", "simpo", "grpo")

IN_ROWS = ("val_size", "val_set_size", "validation_split", "eval_split")

EVAL_BATCH = ("per_device_eval_batch_size", "eval_batch_size")

REMARKS = {
    "trust_remote_code": "trust_code=true runs Python code from the model's folder; leave it out "
    "unless the model needs that code and you have read it",
    "plot_loss": "plot_loss: not needed, the curve of the loss is always drawn (loss.svg)",
    "predict_with_generate": "predict_with_generate: not needed, answers are always generated",
}
"""Key of another tool -> note for a user who sets it to true."""

FOREIGN_KEYS = {foreign: ours for ours, names in KEYS.items() for foreign in names.split()}


def alphanumeric(word: str) -> str:
    """Return a word in lower case and without all but letters and digits, for comparison."""
    return "".join(letter for letter in word.casefold() if letter.isalnum())


def key_here(key: str) -> str | None:
    """Return our key, or our KEY=VALUE, for a key of another tool; None: unknown.

    Args:
        key: The key as typed, such as `lora_rank`, `per-device-train-batch-size` or `train.lr`.
    """
    name = key.replace("-", "_").casefold()
    section, _, last = name.rpartition(".")
    ours = FOREIGN_KEYS.get(name) or FOREIGN_KEYS.get(last)
    if ours is None or (section and ours.partition(".")[0] != section and name not in FOREIGN_KEYS):
        return None
    return ours


def option_here(key: str, value: str, known: list[str]) -> str | None:
    """Return our name of an option, such as nf4 for another tool's `4bit`; None: unknown.

    Args:
        key: A group or an enum key.
        value: The option as typed.
        known: Our options of this key, one of which is returned.
    """
    spelled = alphanumeric(value)
    for option in known:
        if alphanumeric(option) == spelled:
            return option
    for option, spellings in OPTIONS.get(key, {}).items():
        if option in known and spelled in spellings.split():
            return option
    return None


def is_on(value: Any) -> bool:
    """Return whether a value means true: true, yes, 1, or empty (a flag without a value)."""
    return value is True or str(value).casefold() in ("", "true", "yes", "1")


def number_of(value: Any) -> float | None:
    """Return a value as a number; None: the value is not a number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def no_such_stage(stage: Any) -> str | None:
    """Return a message for a training stage of LLaMA-Factory that doesn't exist here, as dpo; else None."""
    if stage not in OTHER_STAGES:
        return None
    return (
        f"{stage} does not exist here; recipe=sft trains on answers, and with data.format=text on plain text"
    )


def obstacle(key: str, value: Any, recipe: str | None = None) -> str | None:
    """Return why another tool's KEY=VALUE has no counterpart here; None: no reason is known.

    Args:
        key: The other tool's key.
        value: Its value.
        recipe: Our recipe that does the job; None: unknown.
    """
    number = number_of(value)
    if key in EVAL_BATCH or (key == "batch_size" and recipe == "evaluate"):
        return "it counts rows; here evaluate.batch_tokens counts tokens"
    if key == "eval_dataset":
        return "a share of the training rows is held out instead, as in data.validation_fraction=0.05"
    if key in IN_ROWS and number is not None and number >= 1:
        return "it counts rows; here a share of the rows is held out, as in data.validation_fraction=0.1"
    if key == "export_size" and recipe == "merge":
        return (
            "a merge writes files of at most 4 GB; export.max_shard_size of recipe=export sets another size"
        )
    if key == "finetuning_type" and value == "freeze":
        return "not available; adapter=none trains all weights, adapter=lora and other methods a few new ones"
    return no_such_stage(value) if key == "stage" else None


def remark(key: str, value: Any, ours: str | None) -> str | None:
    """Return a note on what differs here after a key of another tool is translated; None: nothing differs.

    Args:
        key: The other tool's key.
        value: Its value.
        ours: Our key.
    """
    if key in REMARKS:
        return REMARKS[key] if is_on(value) else None
    if ours == "data.template" and is_family(str(value)):
        return f"{key}: {value} becomes data.template=auto, the chat template that the model has itself"
    if ours == "train.lr_scheduler" and alphanumeric(str(value)) == "cosinewithrestarts":
        return f"{key}: {value} becomes train.lr_scheduler=cosine, which does not restart"
    if ours == "train.save_total_limit" and number_of(value) == 1:
        return f"{key}: {value} becomes 2, so that a damaged checkpoint costs little"
    return None


def is_family(template: str) -> bool:
    """Return whether a name of a chat template is a model family's: neither an option of ours nor a file."""
    known = ("", *Template.__members__, *" ".join(OPTIONS["data.template"].values()).split())
    return template not in known and not template.endswith((*TEMPLATE_ENDINGS, "..."))


def converted(key: str, value: str) -> str:
    """Convert another tool's value to our unit, by its key; most values stay as they are.

    export_size: `4` -> `4GB`. validation_split_percentage: `5` -> `0.05`. save_total_limit: `1` -> `2`.
    """
    number = number_of(value)
    if number is None:
        return value
    if key == "export_size":
        return f"{value}GB"
    if key == "validation_split_percentage":
        return f"{number / 100:g}"
    return "2" if key == "save_total_limit" and number == 1 else value
