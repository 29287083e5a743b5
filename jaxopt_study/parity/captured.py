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
        self._hooked: set[str] = set()
        self._hooks = ExitStack()
        if gradients:
            self._hook_gradients()
        if activations:
            self._hooks.callback(model.register_forward_pre_hook(self._begin).remove)
            for name, module in model.named_modules():
                if name:
                    self._hooks.callback(module.register_forward_hook(self._keep_output(name)).remove)

    def step(self) -> dict[str, Any]:
        """Return what was captured of the step that was just made, and forget it."""
        found: dict[str, Any] = {}
        if self._gradients:
            found["learning_rate"] = self._rates()
            found["gradients"] = {name: self._raw_gradient(name, leaf) for name, leaf in self._params.items()}
            found["clipped"] = {name: _gradient(leaf) for name, leaf in self._params.items()}
            self._hook_gradients()
        if self._outputs:
            found["activations"] = {name: np.concatenate(parts) for name, parts in self._outputs.items()}
        self._raw, self._outputs = {}, {}
        return found

    def _rates(self) -> Any:
        """Return the learning rate, or that of each parameter where groups have different ones."""
        groups = self._optimizer.param_groups
        if len({float(group["lr"]) for group in groups}) == 1:
            return np.asarray(float(groups[0]["lr"]))
        rates = {id(leaf): float(group["lr"]) for group in groups for leaf in group["params"]}
        return {name: np.asarray(rates[id(leaf)]) for name, leaf in self._params.items() if id(leaf) in rates}

    def _raw_gradient(self, name: str, leaf: Any) -> Any:
        if name in self._raw:
            return self._raw[name]
        # A leaf that is unfrozen in mid-run has a hook from its next step on.
        known = name in self._hooked or leaf.grad is None
        return _gradient(leaf) * 0 if known else np.full(tuple(leaf.shape), np.nan, np.float32)

    def _hook_gradients(self) -> None:
        for name, leaf in self._params.items():
            if leaf.requires_grad and name not in self._hooked:
                self._hooked.add(name)
                self._hooks.callback(leaf.register_post_accumulate_grad_hook(self._keep_gradient(name)).remove)

    def _begin(self, *_: Any) -> None:
        """Forget the outputs of a step that was not made: its gradients are gone."""
        leaf = next((leaf for leaf in self._params.values() if leaf.requires_grad), None)
        if leaf is not None and (leaf.grad is None or not leaf.grad.any()):
            self._outputs = {}

    def close(self) -> None:
        """Remove the hooks."""
        self._hooks.close()

    def _keep_gradient(self, name: str) -> Any:
        def keep(leaf: Any) -> None:
            # A copy: clipping changes gradients in place. Micro-batches are summed there until the optimizer steps.
            self._raw[name] = _gradient(leaf)

        return keep

    def _keep_output(self, name: str) -> Any:
        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            output = output[0] if isinstance(output, tuple) else output
            # Evaluation between the steps has no gradients.
            if getattr(output, "requires_grad", False) and output.ndim:
                self._outputs.setdefault(name, []).append(output.detach().double().cpu().numpy())

        return keep


def _gradient(leaf: Any) -> Any:
    """Return a copy of the gradient of a leaf; 0 where it has none."""
    if leaf.grad is None:
        return np.zeros(tuple(leaf.shape), np.float32)
    gradient = leaf.grad.detach()
    return (gradient.to_dense() if gradient.is_sparse else gradient).clone()
