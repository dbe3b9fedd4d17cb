"""A problem file, such as ``qpm constants`` writes."""

from benchopt import BaseDataset

from qpm_opt import Problem


class Dataset(BaseDataset):
    name = "file"
    parameters = {"path": [None]}

    def get_data(self):
        return {"problem": None if self.path is None else Problem.load(self.path)}
