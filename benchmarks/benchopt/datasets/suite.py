"""Instances of the suites of ``qpm_bench``."""

from benchopt import BaseDataset

from qpm_bench.names import check_name
from qpm_bench.suites import suite


class Dataset(BaseDataset):
    name = "suite"
    # SUITE/INSTANCE; any instance of any suite can be given.
    parameters = {"instance": [f"tiny/{name}" for name in suite("tiny")]}
    test_parameters = {"instance": parameters["instance"][:1]}

    def get_data(self):
        name, _, instance = self.instance.partition("/")
        problems = suite(name)
        check_name(f"instance of the suite {name}", instance, problems)
        return {"problem": problems[instance]}
