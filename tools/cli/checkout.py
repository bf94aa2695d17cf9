"""Folder of this checkout, in which commands run other commands."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
