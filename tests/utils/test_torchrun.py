"""torchrun: whether it is there."""

from __future__ import annotations

from utils import torchrun


def test_torchrun_is_the_launcher_where_it_set_its_variables(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert not torchrun.is_launcher()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert torchrun.is_launcher()
