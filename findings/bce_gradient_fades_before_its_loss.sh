#!/usr/bin/env bash
# A generator loss between 28 and 100 looks alive in PyTorch's BCELoss, but teaches next to nothing.
#
# torch 2.14.1, on the CPU, float32. The loss is -log(sigmoid(a)) for a label of 1, as a GAN's
# generator has it when the discriminator says sigmoid(a). Its slope by a should be close to -1
# wherever sigmoid(a) is small. BCELoss documents that it cuts the logarithm at -100. It does not
# say that its backward divides by max(p (1 - p), 1e-12): once p falls below 1e-12 (a below -27.6)
# the slope fades while the loss still rises as it should. BCEWithLogitsLoss keeps the slope.
# Reported as a question in pytorch/pytorch issue 103316.
#
# Guess before the run: the slope stays -1 until the loss reaches 100, then is 0.
# Seen:
#     a      BCELoss: loss, slope    BCEWithLogitsLoss: loss, slope
#   -27        27.0   -1.0000              27.0   -1.0000
#   -30        30.0   -0.0936              30.0   -1.0000
#   -35        35.0   -0.0006              35.0   -1.0000
#  -110       100.0   -0.0000             110.0   -1.0000
# Fails if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet torch==2.14.1
"$folder/bin/python" - <<'PYTHON'
import torch
from torch import nn


def loss_and_slope(a, with_logits):
    a = torch.tensor([a], requires_grad=True)
    label = torch.ones(1)
    loss = nn.BCEWithLogitsLoss()(a, label) if with_logits else nn.BCELoss()(a.sigmoid(), label)
    loss.backward()
    return loss.item(), a.grad.item()


print("torch", torch.__version__)
expected = {-27.0: -1.0, -30.0: -0.0936, -35.0: -0.0006, -110.0: 0.0}
for a, slope in expected.items():
    plain, logits = loss_and_slope(a, False), loss_and_slope(a, True)
    print(f"{a:6.0f}   {plain[0]:6.1f} {plain[1]:8.4f}   {logits[0]:6.1f} {logits[1]:8.4f}")
    assert abs(plain[0] - min(-a, 100)) < 0.01 and abs(plain[1] - slope) < 1e-3
    assert abs(logits[0] + a) < 0.01 and abs(logits[1] + 1) < 1e-3
print("As described.")
PYTHON
