"""The NumPy backend: references by formula, scikit-learn and SciPy."""
