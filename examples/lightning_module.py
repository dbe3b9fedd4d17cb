"""An assignment in a LightningModule: train, choose and assign features, fine-tune.

python examples/lightning_module.py        (pip install lightning)
"""

from __future__ import annotations

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from qpm_nn import AssignmentHead, Classifier
from qpm_opt import Problem, solve


class Digits(lightning.LightningModule):
    """Cross entropy on top of any classifier."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch, _):
        images, labels = batch
        return nn.functional.cross_entropy(self.model(images), labels)

    def test_step(self, batch, _):
        images, labels = batch
        self.log("accuracy", (self.model(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main() -> float:
    lightning.seed_everything(0)
    X, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y))
    train, test = random_split(data, [0.8, 0.2])
    backbone = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 96), nn.ReLU())
    fit(Digits(nn.Sequential(backbone, nn.Linear(96, 10))), train)

    images, labels = train[:]
    with torch.no_grad():
        features = backbone(images).numpy()
    problem = Problem.from_features(features, labels.numpy(), n_selected=20, n_per_class=4)
    result = solve(problem, time_limit=20)
    head = AssignmentHead.from_solution(result, features.mean(0), features.std(0))

    module = Digits(Classifier(backbone, head))
    trainer = fit(module, train)
    (measured,) = trainer.test(module, DataLoader(test, batch_size=512), verbose=False)
    print(f"accuracy {measured['accuracy']:.3f} with 4 of 20 features per class")
    return measured["accuracy"]


def fit(module: lightning.LightningModule, train) -> lightning.Trainer:
    trainer = lightning.Trainer(
        max_epochs=30, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(train, batch_size=128, shuffle=True))
    return trainer


if __name__ == "__main__":
    main()
