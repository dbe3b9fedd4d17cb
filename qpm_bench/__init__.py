"""Instances, runs and measures that compare solvers; knows nothing of training."""
