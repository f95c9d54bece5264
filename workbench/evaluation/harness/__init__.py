"""lm-evaluation-harness on this project's engine; the optional extra `lm-eval` brings the harness."""
