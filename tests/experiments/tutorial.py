"""The training step of PyTorch's quickstart tutorial, alone."""

import numpy as np
import torch
from torch import nn

rng = np.random.default_rng(0)
BATCHES = [(rng.random((64, 1, 28, 28)), rng.integers(10, size=64)) for _ in range(4)]


class NeuralNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear_relu_stack = nn.Sequential(
            nn.Linear(28 * 28, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
        )

    def forward(self, x):
        return self.linear_relu_stack(self.flatten(x))


def torch_step():
    model, loss_fn = NeuralNetwork(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step(state, batch):
        (model, optimizer), (X, y) = state, batch  # noqa: N806
        pred = model(X)
        loss = loss_fn(pred, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return state, loss

    return {"state": (model, optimizer), "step": step, "batches": BATCHES}
