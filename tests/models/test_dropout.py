"""Dropout: the fraction that it drops, and the rows of a batch that several processes share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import models
from models.dropout import Dropout, set_dropout


def test_set_dropout_sets_the_fraction_of_a_network():
    model = models.create("resnet18", 2, 1, 16).train()
    assert set_dropout(model, 0.8) == 1
    kept = (model.dropout(torch.ones(100, 512)) > 0).float().mean().item()
    assert kept == pytest.approx(0.2, abs=0.01)


def test_set_dropout_of_a_network_without_dropout_sets_none():
    assert set_dropout(nn.Sequential(nn.Linear(2, 2)), 0.5) == 0


def test_dropout_scales_what_it_keeps_and_does_nothing_in_evaluation():
    layer, ones = Dropout(0.75), torch.ones(50, 40)
    assert set(layer(ones).unique().tolist()) == {0.0, 4.0}
    assert torch.equal(layer.eval()(ones), ones)


def test_dropout_of_rows_is_that_of_the_whole_batch():
    layer, batch = Dropout(0.5), torch.rand(7, 3, 4) + 1
    torch.manual_seed(5)
    whole = layer(batch)
    parts = []
    for first, end in ((0, 3), (3, 7)):
        layer.rows = first, 7
        torch.manual_seed(5)
        parts.append(layer(batch[first:end]))
    assert torch.equal(torch.cat(parts), whole)
