"""The JAX backend: each module has the name and the public functions of its twin in `torch_reference`."""
