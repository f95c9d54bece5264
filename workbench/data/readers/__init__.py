"""Readers of rows: CSV, TSV, JSON, JSONL, Parquet, Arrow, text and Hub datasets."""
