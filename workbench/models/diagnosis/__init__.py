"""Diagnoses a merged model of any tool by comparing its files with those of base and adapter."""
