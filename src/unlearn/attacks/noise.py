"""Random sign noise, the worst of several draws: what no attack that follows gradients may fall behind."""

import torch
from torch import Tensor

from unlearn.api.attacks import Attack, Natural, Target, dataclass

THREAT_NORM = "linf"
CATEGORY = "noise"


@dataclass(frozen=True)
class Settings:
    draws: Natural = 20


def build(model: Target, eps: float, settings: Settings) -> dict[str, Attack]:
    @torch.no_grad()
    def attack(x: Tensor, y: Tensor) -> Tensor:
        found = x.clone()
        for _ in range(settings.draws):
            noisy = (x + eps * torch.randn(x.shape).sign().to(x)).clamp(0, 1)
            right = model(found).argmax(1) == y
            found = torch.where(right[:, None, None, None], noisy, found)
        return found

    return {"noise": attack}
