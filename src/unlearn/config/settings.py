"""The vocabulary of settings: annotated types, and sections of a config such as the settings of a plug-in.

A plug-in declares its settings as a class ``Settings`` that derives from ``Section`` or ``Training``; its annotations
state type and range, its defaults are the only place where a default stands. Nothing here imports torch, so a whole
config is checked while the Snakefile is parsed (importing torch costs 2.9 CPU s a parse).
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Annotated",
    "Any",
    "Budget",
    "Color",
    "Count",
    "Field",
    "File",
    "Files",
    "Folder",
    "Fraction",
    "Literal",
    "Natural",
    "NonNegative",
    "Pictures",
    "Positive",
    "Section",
    "Seed",
    "Share",
    "Training",
]


class ConfigError(ValueError):
    """A setting that cannot be used. The message starts with the key, unless ``key`` says better
    which file to look in."""

    def __init__(self, message: str, key: str = ""):
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Outside:
    """Marks a text that names a "file", a "folder" or "files" (a file, a folder of them, or a pattern such as
    ``train-*.parquet``) outside the project, whose content a result depends on."""

    kind: str


Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Natural = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Budget = Natural | None  # None for all
File = Annotated[str, Field(min_length=1), Outside("file")]
Files = Annotated[str, Field(min_length=1), Outside("files")]
Folder = Annotated[str, Field(min_length=1), Outside("folder")]
Color = Annotated[str, Field(pattern="^(white|black|#[0-9A-Fa-f]{6})$")]

STRICT = ConfigDict(strict=True, allow_inf_nan=False)


class Section(BaseModel):
    """Settings that belong together. Unknown keys are refused, and so are a text or true for a number. A text below
    a setting describes it."""

    model_config = ConfigDict(
        **STRICT, frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True
    )


class Pictures(Section):
    """How a data source decodes image files, and what it does about gaps."""

    size: Natural | None = None
    """Side in pixels: the shorter side is resized, the centre cropped to a square; null keeps images as they are."""
    mode: Literal["RGB", "L"] = "RGB"
    """Colour, or L for grey."""
    background: Color = "white"
    """What is seen through transparent pixels."""
    unreadable: Literal["refuse", "leave out"] = "refuse"
    """What is done about image files that cannot be decoded: they are listed, or left out and counted."""
    empty_classes: Literal["refuse", "allow"] = "refuse"
    """What is done about a class that has no training images, or no test images."""


class Training(Section):
    """What every gradient-trained method needs; the optimisation scaffold of SalUn (Fan et al.
    2024, §5): SGD with momentum 0.9 and weight decay 5e-4, batch 256, a fresh optimiser state,
    and a learning rate that is constant over the few epochs of unlearning."""

    epochs: Count = 10
    """Passes over the images."""
    lr: NonNegative = 0.01
    """Learning rate."""
    batch_size: Natural = 256
    """Images in a step, at most."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """torch.optim's, with a state of its own."""
    momentum: Share = 0.9
    """Of SGD."""
    weight_decay: NonNegative = 5e-4
    """As the optimizer defines it."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Of the learning rate, after the warm-up."""
    warmup: Count = 0
    """Epochs over which the learning rate rises to its value."""
