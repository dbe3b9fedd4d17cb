"""An assignment behind a timm model, with a solution file that any solver may have written.

python examples/timm_model.py              (pip install timm)
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import timm
import torch
from sklearn.datasets import load_digits
from torch import nn

from qpm_nn import AssignmentHead, Classifier
from qpm_opt import Problem, solve


def main(name: str = "test_resnet", epochs: int = 6) -> float:
    torch.manual_seed(0)
    X, y = load_digits(return_X_y=True)
    images = torch.tensor(X / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    images, labels = nn.functional.interpolate(images, size=32), torch.tensor(y)
    x_train, x_test, y_train, y_test = images[:1400], images[1400:], labels[:1400], labels[1400:]

    # Without pooling and classifier: feature maps (n_images, n_features, height, width).
    maps = timm.create_model(name, in_chans=1, num_classes=0, global_pool="")
    backbone = nn.Sequential(maps, nn.ReLU())
    n_features = maps.num_features
    dense = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_features, 10))
    fit(nn.Sequential(backbone, dense), x_train, y_train, epochs)

    with torch.no_grad():
        features = backbone.eval()(x_train).mean((2, 3)).numpy()
    problem = Problem.from_features(features, y_train.numpy(), n_selected=20, n_per_class=4)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "solution.json"
        solve(problem, time_limit=20).save(path, problem)
        head = AssignmentHead.from_solution(path, features.mean(0), features.std(0))

    model = Classifier(backbone, head)
    fit(model, x_train, y_train, epochs)
    with torch.no_grad():
        accuracy = (model.eval()(x_test).argmax(1) == y_test).float().mean().item()
    print(f"accuracy {accuracy:.3f} with 4 of 20 features per class")
    return accuracy


def fit(model: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int) -> None:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


if __name__ == "__main__":
    main()
