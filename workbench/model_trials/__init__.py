"""What trials of a loaded model have in common: at which lengths and scales they run, and how they end."""
