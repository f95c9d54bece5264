"""Encodes rendered segments, and finds control tokens in the text of rows."""
