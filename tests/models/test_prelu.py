"""PReLU, beside torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.prelu import PReLU


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_prelu_has_the_outputs_and_gradients_of_torch(dtype):
    ours, theirs = PReLU().to(torch.float64), nn.PReLU().to(torch.float64)
    x = torch.randn(3, 4, 5, 5, dtype=dtype)
    results = []
    for layer in (ours, theirs):
        inputs = x.clone().requires_grad_()
        layer = layer if dtype == torch.float64 else layer.to(dtype)
        outputs = layer(inputs)
        outputs.pow(2).sum().backward()
        results.append((outputs.detach(), inputs.grad, layer.weight.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
