"""The measuring apparatus. It imports no framework: a wing is named to it."""
