"""What is compared with both wings and uses neither framework: NumPy alone, with a wing's module names."""
