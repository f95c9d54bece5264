"""The Python interface: functions that take plain values, and return results that a notebook displays.

    import workbench as wb

    model, tokenizer = wb.load_model("MODEL", quantization="nf4")
    benchmarks = [wb.load_benchmark("cmmlu", path="CMMLU", limit=20), wb.load_benchmark("c3", path="C3")]
    base = wb.evaluate(model, tokenizer, benchmarks, name="base")
    tuned = wb.finetune("MODEL", "rows.jsonl", output="runs/mine", quantization="nf4", num_epochs=2)
    model, tokenizer = wb.load_model("MODEL", quantization="nf4", adapter=tuned.folder)
    wb.compare(base, wb.evaluate(model, tokenizer, benchmarks, name="adapter"))
    wb.merge("MODEL", tuned.folder, "runs/mine/merged", quantization="nf4")

The functions are attributes of `workbench`; each is imported on first use:

    load_benchmark    benchmarks.py    loads a shipped benchmark, or one of your own
    load_model        loading.py       loads a model, optionally quantized, with or without an adapter
    evaluate          evaluation.py    scores a model on benchmarks -> Results
    finetune          finetuning.py    trains an adapter or a model on rows -> FineTuned
    merge             merging.py       merges base model and adapter, and proves the result -> Merged
    combine           combining.py     makes one adapter out of several -> Combined
    compare           leaderboard/compare_results.py    compares two Results item by item -> Comparison

Settings have the names, defaults and checks of the command line's keys, without the section's name. The steps
of a recipe share `train_weights`, `encode_examples` and `load_adapter` with these functions.
"""
