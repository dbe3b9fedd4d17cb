"""Regions around images: numbers and pictures of case studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qpm_nn.data import ImageSet
from qpm_nn.explanations.representative.figure import HEAT_SHAPE
from qpm_nn.report.media import encoded, thumbnail

#: Images whose regions are shown.
N_REGIONS = 60


class RegionsOfImages:
    """Regions around test images, with the training images most like them.

    Parameters
    ----------
    studies : sequence of mappings
        Of :func:`~qpm_nn.report.studies.read_studies`; the first ``N_REGIONS`` are shown.
    training : ImageSet
    """

    def __init__(self, studies: Sequence[Mapping[str, Any]], training: ImageSet) -> None:
        self._studies, self._n_explained = studies[:N_REGIONS], len(studies)
        self._images = training
        #: The test images.
        self.inputs: list[int] = [study["input"]["index"] for study in self._studies]
        similar = (one["index"] for study in self._studies for one in study["similar"])
        #: The training images, each once.
        self.training: list[int] = list(dict.fromkeys(similar))

    def record(self, places: Sequence[int]) -> dict[str, Any]:
        """What the page shows.

        Parameters
        ----------
        places : sequence of int
            Of the test images in the report.
        """
        n_heat, images = 0, []
        place_of = {i: place for place, i in enumerate(self.training)}
        for study, place in zip(self._studies, places, strict=True):
            found, similar = study["interpretation"], study["similar"]
            images.append(
                {
                    "image": place,
                    "class": found["class"],
                    "probability": study["input"]["probability"],
                    "heat": n_heat,
                    "layer": found["layer"],
                    "sampling": found["sampling"],
                    "method": found["method"],
                    "n_sampled": found["n_sampled"],
                    "n_boundaries": len(found["boundaries"]),
                    "between": [one["classes"] for one in found["boundaries"]],
                    "n_covered_same": found["n_covered_same"],
                    "n_same": found["n_same"],
                    "n_covered_other": found["n_covered_other"],
                    "bound": found["bound"],
                    "relative_gap": found["relative_gap"],
                    "is_proved": found["bound"] == found["n_covered_same"],
                    "has_fewest": found["has_fewest"],
                    "greedy": dict(study["greedy"]),
                    "similar": [
                        {
                            "training": place_of[one["index"]],
                            "index": one["index"],
                            "label": int(self._images.labels[one["index"]]),
                            "distance": one["distance"],
                            "probability": one["probability"],
                            "heat": n_heat + n,
                        }
                        for n, one in enumerate(similar, 1)
                    ],
                }
            )
            n_heat += 1 + len(similar)
        return {
            "n_explained": self._n_explained,
            "heat_shape": list(HEAT_SHAPE),
            "images": images,
        }

    def media(self, side: int) -> dict[str, list[str]]:
        """Photographs of the training images with a side of so many pixels, and all heat maps."""
        shown = [one for study in self._studies for one in (study["input"], *study["similar"])]
        heat = [np.frombuffer(bytes.fromhex(one["heat"]), np.uint8) for one in shown]
        return {
            "training": [thumbnail(self._images[i][0], side) for i in self.training],
            "heat": [encoded(values) for values in heat],
        }
