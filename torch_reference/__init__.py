"""The PyTorch backend: each module has the name and the public functions of its twin in `jaxopt_study.backends.jax`."""
