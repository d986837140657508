"""Decide what should be: no I/O, clock, randomness or log."""
