"""What is trained on: arrays, initial parameters and the order of rows, drawn in NumPy from a seed."""
