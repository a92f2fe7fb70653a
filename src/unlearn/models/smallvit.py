"""``smallvit``: a vision transformer for small data sets, registered with timm beside timm's own models.

Lee et al. 2021, "Vision Transformer for Small-Size Datasets" (arXiv:2112.13492): shifted patch tokenization (SPT, §3.2)
and locality self-attention (LSA, §3.3). The default sizes are those that CIFAR-10 studies call ``vit_small``: patch 4,
width 512, depth 6, 8 heads of 64, MLP 512, dropout 0.1; 9,622,512 parameters for 10 classes. The model shifts by one
pixel along the axes and learns one temperature per layer; the paper shifts by half a patch along the diagonals and
learns one temperature per head.
"""

import math

import torch
import torch.nn.functional as F
from timm.models import register_model
from torch import Tensor, nn


class ShiftedPatches(nn.Module):
    """[B, C, H, W] → [B, patches, dim]: the image and its four shifts as channels, cut into patches."""

    def __init__(self, channels: int, patch: int, dim: int):
        super().__init__()
        self.patch = patch
        width = 5 * channels * patch * patch
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, dim)

    def forward(self, x: Tensor) -> Tensor:
        shifts = ((1, -1, 0, 0), (-1, 1, 0, 0), (0, 0, 1, -1), (0, 0, -1, 1))
        x = torch.cat([x, *(F.pad(x, shift) for shift in shifts)], dim=1)
        patches = F.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        return self.project(self.norm(patches))


class LocalityAttention(nn.Module):
    """Self-attention with a learned temperature, in which no token attends to itself."""

    def __init__(self, dim: int, heads: int, head_dim: int, drop: float):
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.tensor(math.log(head_dim**-0.5)))
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.project = nn.Linear(heads * head_dim, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) * self.temperature.exp()
        itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        weights = self.drop(scores.masked_fill(itself, torch.finfo(scores.dtype).min).softmax(-1))
        return self.drop(self.project((weights @ v).transpose(1, 2).flatten(2)))


class Block(nn.Module):
    """Pre-norm attention and MLP, each with a residual connection."""

    def __init__(self, dim: int, heads: int, head_dim: int, mlp: int, drop: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = LocalityAttention(dim, heads, head_dim, drop)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp), nn.GELU(), nn.Dropout(drop), nn.Linear(mlp, dim), nn.Dropout(drop)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class SmallViT(nn.Module):
    """Logits [B, num_classes] of images [B, in_chans, img_size, img_size]."""

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 3,
        img_size: int = 32,
        patch_size: int = 4,
        embed_dim: int = 512,
        depth: int = 6,
        num_heads: int = 8,
        head_dim: int = 64,
        mlp_dim: int = 512,
        drop_rate: float = 0.1,
    ):
        super().__init__()
        if img_size % patch_size:
            raise ValueError(f"smallvit: img_size {img_size} is not a multiple of patch_size {patch_size}")
        self.num_classes, self.num_features = num_classes, embed_dim
        tokens = (img_size // patch_size) ** 2 + 1
        self.patch_embed = ShiftedPatches(in_chans, patch_size, embed_dim)
        self.cls_token = nn.Parameter(torch.randn(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.randn(1, tokens, embed_dim))
        self.pos_drop = nn.Dropout(drop_rate)
        self.blocks = nn.Sequential(*(Block(embed_dim, num_heads, head_dim, mlp_dim, drop_rate) for _ in range(depth)))
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)

    def group_matcher(self, coarse: bool = False) -> dict:
        return {
            "stem": r"^cls_token|pos_embed|pos_drop|patch_embed",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        return self.norm(self.blocks(self.pos_drop(x)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return x[:, 0] if pre_logits else self.head(x[:, 0])

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


@register_model
def smallvit(pretrained: bool = False, pretrained_cfg: object = None, **kwargs) -> SmallViT:
    if pretrained:
        raise ValueError("smallvit has no pretrained weights")
    for unused in ("pretrained_cfg_overlay", "cache_dir"):
        kwargs.pop(unused, None)
    return SmallViT(**kwargs)
