"""The Python face: plain values in, results that a notebook shows out.

    import workbench as wb

    model, tokenizer = wb.load_model("MODEL", quantization="nf4")
    benchmarks = [wb.load_benchmark("cmmlu", path="CMMLU", limit=20), wb.load_benchmark("c3", path="C3")]
    base = wb.evaluate(model, tokenizer, benchmarks, name="base")
    tuned = wb.finetune("MODEL", "rows.jsonl", output="runs/mine", quantization="nf4", num_epochs=2)
    model, tokenizer = wb.load_model("MODEL", quantization="nf4", adapter=tuned.folder)
    wb.compare(base, wb.evaluate(model, tokenizer, benchmarks, name="adapter"))
    wb.merge("MODEL", tuned.folder, "runs/mine/merged", quantization="nf4")

The functions are attributes of `workbench` itself, each imported when it is first used:

    load_benchmark    benchmarks.py    a shipped benchmark, or one of your own
    load_model        loading.py       a model, quantized if asked, with or without an adapter
    evaluate          evaluation.py    a model in memory on benchmarks -> Results
    finetune          finetuning.py    rows -> an adapter, or a trained model
    merge             merging.py       base and adapter -> one model, proven
    compare           leaderboard/comparison.py    two Results, item by item -> Comparison

Settings have the names, defaults and checks of the command line's keys, without the section before the name.
"""
