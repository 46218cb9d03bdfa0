"""``python -m streamsql``."""

from streamsql.cli import program

program()
