"""The PyTorch twin of `jaxopt_study`: modules of the same names, functions of the same names and parameters."""
