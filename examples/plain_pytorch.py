"""An assignment in your own training loop: features, qpm_opt.solve, AssignmentHead, fine-tuning.

python examples/plain_pytorch.py
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from qpm_nn import AssignmentHead, Classifier
from qpm_opt import Problem, solve


def main() -> float:
    torch.manual_seed(0)
    X, y = load_digits(return_X_y=True)
    parts = train_test_split(X / 16, y, stratify=y, random_state=0)
    x_train, x_test = (torch.tensor(part, dtype=torch.float32) for part in parts[:2])
    y_train, y_test = (torch.tensor(part) for part in parts[2:])

    # Any backbone will do; its features must not be negative. This one yields vectors.
    backbone = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 96), nn.ReLU())
    fit(nn.Sequential(backbone, nn.Linear(96, 10)), x_train, y_train, epochs=30)

    with torch.no_grad():
        features = backbone(x_train).numpy()
    problem = Problem.from_features(features, y_train.numpy(), n_selected=20, n_per_class=4)
    result = solve(problem, time_limit=20)
    print(f"objective {result.objective:.2f}, bound {result.bound:.2f}: every class has 4 of 20")

    head = AssignmentHead.from_solution(result, features.mean(0), features.std(0))
    model = Classifier(backbone, head)
    fit(model, x_train, y_train, epochs=30)  # trains the backbone: the head has no parameters
    model.eval()
    accuracy = (model(x_test).argmax(1) == y_test).float().mean().item()
    print(f"accuracy {accuracy:.3f}")
    return accuracy


def fit(model: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int) -> None:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(128):
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


if __name__ == "__main__":
    main()
