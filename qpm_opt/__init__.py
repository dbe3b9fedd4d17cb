"""Exact feature selection and assignment for globally interpretable image classifiers."""
