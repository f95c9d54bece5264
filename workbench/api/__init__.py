"""The Python face: plain values in, results that a notebook shows out.

Its functions are attributes of `workbench` itself, each imported when it is first used:

    load_benchmark    benchmarks.py    a shipped benchmark, or one of your own
    load_model        loading.py       a model, quantized if asked, with or without an adapter
    evaluate          evaluation.py    a model in memory on benchmarks -> Results
    finetune          finetuning.py    rows -> an adapter, or a trained model
    merge             merging.py       base and adapter -> one model, proven
    compare           leaderboard/comparison.py    two Results, item by item -> Comparison

Settings have the names, defaults and checks of the command line's keys, without the section before the name.
"""
