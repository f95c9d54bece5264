"""Reads results of other tools, so that their models are rows of the leaderboard.

    find                 a folder -> results of other tools below it (`imported_results`)
    harness_folder       a results file of lm-evaluation-harness and its samples -> benchmarks
    harness_model        a results file -> facts about the model
    harness_samples      the lines of a samples file -> items
    harness_scores       items of a task or a group -> scores, checked against the reported totals
    harness_predictions  the same lines with all texts, for questions shown one by one
    compass_folder       predictions and results of OpenCompass -> benchmarks
    compass_items        a predictions file of OpenCompass -> items
    scores               items -> scores
    alignment            imported items -> the same with ids and order of another run's items

leaderboard/imported_items.py defines what an import contains. No code of a file is run. Names and texts come
from the other tool, so code that shows them calls `shown.clean`.
"""
