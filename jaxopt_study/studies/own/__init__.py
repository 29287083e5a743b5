"""A user's own models, losses and optimizers in the studies: see `jaxopt_study.register`."""
