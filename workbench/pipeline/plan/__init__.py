"""The plan step: forecasts memory and time of a training from the configuration alone."""
