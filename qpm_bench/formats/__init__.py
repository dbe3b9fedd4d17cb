"""Public text formats: readers that make a :class:`qpm_opt.Problem`, and writers of any problem.

Each file of the package is one format and says how its signs and scales become those of A, R and b.
Nothing here knows an optimum: no format states one.
"""

from qpm_bench.formats.dimacs import read_dimacs
from qpm_bench.formats.diversity import read_max_diversity
from qpm_bench.formats.export import write_instance
from qpm_bench.formats.k_cluster import read_k_cluster
from qpm_bench.formats.models import write_linear_model
from qpm_bench.formats.opb import read_opb
from qpm_bench.formats.p_median import read_p_median
from qpm_bench.formats.qplib import read_qplib
from qpm_bench.formats.qplib_writer import write_qplib

__all__ = [
    "read_dimacs",
    "read_k_cluster",
    "read_max_diversity",
    "read_opb",
    "read_p_median",
    "read_qplib",
    "write_instance",
    "write_linear_model",
    "write_qplib",
]
