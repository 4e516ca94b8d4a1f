"""The CPU's name, as reports state it."""

from __future__ import annotations

import platform
import re
from pathlib import Path


def cpu_name() -> str:
    """Return the CPU's model as Linux tells it, or what the system calls its kind."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    names = re.findall(r"^model name\s*:\s*(.*\S)", text, re.M)
    return names[0] if names else platform.processor() or platform.machine()
