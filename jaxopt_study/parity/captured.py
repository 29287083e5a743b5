"""What the hooks of a PyTorch model and optimizer see of a step: gradients, learning rate, outputs of modules."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np


class Captured:
    """The quantities of the step that is being made.

    Args:
        model: The module.
        optimizer: Its optimizer.
        params: The parameters by their names.
        gradients: Whether gradients and learning rate are captured.
        activations: Whether the outputs of the modules are.
    """

    def __init__(
        self, model: Any, optimizer: Any, params: dict[str, Any], *, gradients: bool, activations: bool
    ) -> None:
        self._optimizer, self._params, self._gradients = optimizer, params, gradients
        self._raw: dict[str, Any] = {}
        self._outputs: dict[str, list[Any]] = {}
        self._hooks = ExitStack()
        if gradients:
            for name, leaf in params.items():
                if leaf.requires_grad:
                    self._hooks.callback(leaf.register_post_accumulate_grad_hook(self._keep_gradient(name)).remove)
        if activations:
            for name, module in model.named_modules():
                if name:
                    self._hooks.callback(module.register_forward_hook(self._keep_output(name)).remove)

    def step(self) -> dict[str, Any]:
        """Return what was captured of the step that was just made, and forget it."""
        found: dict[str, Any] = {}
        if self._gradients:
            found["learning_rate"] = np.asarray(float(self._optimizer.param_groups[0]["lr"]))
            found["gradients"] = {name: self._raw.get(name, _zeros(leaf)) for name, leaf in self._params.items()}
            found["clipped"] = {
                name: _zeros(leaf) if leaf.grad is None else leaf.grad for name, leaf in self._params.items()
            }
        if self._outputs:
            found["activations"] = {name: np.concatenate(parts) for name, parts in self._outputs.items()}
        self._raw, self._outputs = {}, {}
        return found

    def close(self) -> None:
        """Remove the hooks."""
        self._hooks.close()

    def _keep_gradient(self, name: str) -> Any:
        def keep(leaf: Any) -> None:
            # A copy: clipping changes gradients in place. Micro-batches are summed there until the optimizer steps.
            self._raw[name] = leaf.grad.detach().clone()

        return keep

    def _keep_output(self, name: str) -> Any:
        def keep(module: Any, inputs: Any, output: Any) -> None:
            del inputs
            output = output[0] if isinstance(output, tuple) else output
            # Evaluation between the steps has no gradients.
            if module.training and getattr(output, "requires_grad", False) and output.ndim:
                self._outputs.setdefault(name, []).append(output.detach().double().cpu().numpy())

        return keep


def _zeros(leaf: Any) -> Any:
    return np.zeros(tuple(leaf.shape), np.float32)
