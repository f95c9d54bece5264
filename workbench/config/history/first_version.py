"""Lists the fields of the first version's configuration, and those that have become constants."""

from typing import Any

FIRST_FIELDS: dict[str, frozenset[str]] = {
    name: frozenset(names.split())
    for name, names in {
        "AdapterConfig": "method path rank alpha dropout target_modules modules_to_save trainable_tokens "
        "use_rslora init rank_pattern trainable_tokens_from",
        "BenchmarkConfig": "source dataset path language local hub subsets only groups split fewshot_split "
        "num_fewshot limit num_items id keep output_type tasks include_path description question choices "
        "options choices_from continuation target target_index delimiter fewshot_delimiter fewshot_order "
        "scoring average unconditional metrics protocol protocols generation",
        "Config": "description recipe_name steps seed run_dir continues force model quantization adapter "
        "data train merge evaluate benchmarks plan predict export tokenizer leaderboard",
        "DataConfig": "path sources format columns split subset labels streaming regression template "
        "max_length truncation packing validation_fraction limit shuffle_answers",
        "EvaluateConfig": "models batch_tokens shared_prefix invariant verify chat_template max_length "
        "fewshot_seed permutations confidence bootstrap_samples cache",
        "Example": "id subset description shots fewshot_delimiter delimiter questions continuations choices "
        "target unconditional rotations",
        "GenerationConfig": "max_new_tokens stop temperature extract pattern",
        "HubConfig": "name columns",
        "LocalConfig": "files header beside unfold quoting columns",
        "MergeConfig": "dtype max_shard_size tolerance probe_size probe_length batch_size",
        "ModelConfig": "path task dtype device attention revision architecture tokenizer pad_token init",
        "ProtocolConfig": "description question continuation delimiter fewshot_delimiter fewshot_order "
        "num_fewshot scoring average metrics",
        "QuantizationConfig": "method double_quant compute_dtype int8_threshold skip_modules",
        "Shot": "question answer",
        "SourceConfig": "path weight format columns split subset template limit",
        "TokenizerConfig": "vocab_size num_new_tokens pieces add_ascii min_frequency max_piece_length "
        "character_coverage",
        "TrainConfig": "max_steps num_epochs learning_rate lora_plus_ratio lr_scheduler warmup_steps "
        "weight_decay max_grad_norm per_device_batch_size max_tokens_per_batch gradient_accumulation_steps "
        "group_by_length gradient_checkpointing deterministic logging_steps save_steps save_total_limit keep "
        "score_on patience report_to",
    }.items()
}
"""Dataclass -> its fields in version 1. Never change these: names of runs are computed from them."""

REMOVED_FIELDS: dict[str, dict[str, Any]] = {
    "EvaluateConfig": {"bootstrap_samples": 2000, "cache": True},
    "LeaderboardConfig": {"num_samples": 3},
    "MergeConfig": {
        "max_shard_size": "4GB",
        "tolerance": 1e-4,
        "probe_size": 16,
        "probe_length": 128,
        "batch_size": 4,
    },
    "TokenizerConfig": {"min_frequency": 2, "max_piece_length": 16},
}
"""Dataclass -> field of version 1 that is a constant of the code today -> the constant."""
