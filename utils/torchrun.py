"""torchrun, where it started this process: what it keeps of a training that it starts again."""

from __future__ import annotations

import os


def is_launcher() -> bool:
    """Return whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ
