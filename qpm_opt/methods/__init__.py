"""Strategies that solve a problem, one module each."""
