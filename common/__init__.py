"""What everything else stands on: parameters, data, curves, numbers, files. Most of it does without PyTorch."""

from pathlib import Path

ROOT = Path(__file__).parent.parent  # the project's folder
