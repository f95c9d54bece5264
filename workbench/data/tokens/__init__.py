"""From rendered segments to token ids, and control tokens inside the rows' own text."""
