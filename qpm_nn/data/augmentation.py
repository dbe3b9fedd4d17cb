"""Random changes of training images, in [0, 1], from torch's global generator of the CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

#: Square roots of the eigenvalues, and the eigenvectors in columns, of the covariance of ImageNet's
#: colours in [0, 1] (Krizhevsky, Sutskever, Hinton, NeurIPS 2012, section 4.1; the values in use
#: since the fb.resnet.torch implementation).
COLOUR_DEVIATIONS = (0.2175, 0.0188, 0.0045)
COLOUR_DIRECTIONS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


@dataclass(frozen=True)
class Augmentation:
    """Random affine maps, one per image, each parameter uniform around 'no change'.

    Attributes
    ----------
    degrees : float
        Largest rotation to either side.
    scale : float
        Largest relative change of size.
    shear : float
        Largest horizontal or vertical shear, as a factor.
    translate : float
        Largest shift in either direction, as a fraction of the image.
    flip : bool
        Whether to mirror half of the images left to right.
    padding : {"zeros", "reflection"}
        What lies outside the image.
    """

    degrees: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    translate: float = 0.0
    flip: bool = False
    padding: str = "zeros"

    def __call__(self, images: Tensor) -> Tensor:
        """Augmented copy of float images (n_images, channels, height, width).

        Draws from torch's global generator of the CPU, whatever the device of the images.
        """
        if self == Augmentation(padding=self.padding):
            return images  # nothing is to be changed
        n_images = len(images)
        uniform = 2 * torch.rand(7, n_images) - 1
        angle = uniform[0] * math.radians(self.degrees)
        zoom = 1 + self.scale * uniform[1]
        shear_x, shear_y = self.shear * uniform[2], self.shear * uniform[3]
        mirror = torch.where(uniform[6] < 0, -1.0, 1.0) if self.flip else torch.ones(n_images)
        cos, sin = angle.cos() * zoom, angle.sin() * zoom
        # affine_grid counts in half images, of which the sides may differ.
        height, width = images.shape[2:]
        x_of_y = (shear_x * cos - sin) * (height / width)
        y_of_x = (sin + shear_y * cos) * (width / height)
        theta = torch.stack(
            [
                torch.stack([mirror * (cos - shear_y * sin), x_of_y], 1),
                torch.stack([mirror * y_of_x, shear_x * sin + cos], 1),
            ],
            1,
        )
        shift = 2 * self.translate * uniform[4:6].T.unsqueeze(2)
        theta = torch.cat([theta, shift], 2).to(images)
        grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, padding_mode=self.padding, align_corners=False)


@dataclass(frozen=True)
class PhotographAugmentation:
    """Changes of photographs, drawn for each image.

    Attributes
    ----------
    padding : int
        Pixels of black around the image, from which a window of its size is cut; 0: none.
    smallest_crop : float
        Least share of the image in a random window that is resized to the whole; 1: none.
    flip : bool
        Whether to mirror half of the images left to right.
    jitter : float
        Largest relative change of brightness, contrast and saturation.
    trivial : bool
        Whether TrivialAugmentWide follows (Mueller, Hutter, TrivialAugment, ICCV 2021).
    lighting : float
        Standard deviation of the noise along the principal colours of ImageNet, which images with
        three channels get; 0: none.

    References
    ----------
    Norrenbrock et al., QPM, ICLR 2025, appendix C.
    """

    padding: int = 0
    smallest_crop: float = 1.0
    flip: bool = True
    jitter: float = 0.1
    trivial: bool = True
    lighting: float = 0.0

    def __call__(self, images: Tensor) -> Tensor:
        """Augmented copy of float images (n_images, channels, height, width)."""
        if not len(images):
            return images
        transforms = self._transforms(list(images.shape[2:]))
        # One by one, on the CPU: the transforms draw once for all images that they are given, and
        # some of their draws come from the generator of the CPU in any case.
        changed = [self._changed(image, transforms) for image in images.cpu()]
        return torch.stack(changed).to(images.device)

    def _changed(self, image: Tensor, transforms: list[v2.Transform]) -> Tensor:
        for transform in transforms:
            image = transform(image)
        if self.lighting and len(image) == 3:
            deviations = image.new_tensor(COLOUR_DEVIATIONS)
            directions = image.new_tensor(COLOUR_DIRECTIONS)
            draws = self.lighting * torch.randn(3)
            image = image + (directions @ (draws * deviations)).view(3, 1, 1)
        return image

    def _transforms(self, shape: list[int]) -> list[v2.Transform]:
        built: list[v2.Transform] = []
        if self.smallest_crop < 1.0:
            built.append(v2.RandomResizedCrop(shape, (self.smallest_crop, 1.0), antialias=True))
        if self.padding:
            built.append(v2.RandomCrop(shape, padding=self.padding))
        if self.flip:
            built.append(v2.RandomHorizontalFlip())
        if self.jitter:
            built.append(v2.ColorJitter(self.jitter, self.jitter, self.jitter))
        if self.trivial:
            built.append(v2.TrivialAugmentWide())
        return built


AnyAugmentation = Augmentation | PhotographAugmentation

#: By name: nothing, what the QPM paper does to photographs, and to ImageNet's.
AUGMENTATIONS: dict[str, AnyAugmentation] = {
    "none": Augmentation(),
    "photographs": PhotographAugmentation(padding=4),
    "imagenet": PhotographAugmentation(smallest_crop=0.08, trivial=False, lighting=0.05),
}
