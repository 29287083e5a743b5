"""The C backend: the limit of a training loop."""
