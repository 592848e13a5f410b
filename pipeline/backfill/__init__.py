"""Backfill: what the venue still gives of the past, asked for once and brought into the tables.

`display` runs one for a person, `run` for a program; `settings` is apart so that reading settings imports nothing else.
"""
