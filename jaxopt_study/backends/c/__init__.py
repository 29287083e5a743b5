"""The C backend: a training loop as fast as its arithmetic allows."""
