"""Models beside each other on a data set: trained, measured, and laid out in tables and plots.

``python -m benchmarks.models run`` trains variants of the settings of a run, ``python -m
benchmarks.models report`` makes tables and plots of what they left.
"""
