"""Narrow weights beside floats and beside those of peers, each with its error: ``python -m bench --precision``."""
