"""CIFAR-10, CIFAR-100, SVHN and Fashion-MNIST, downloaded by torchvision where allowed."""

from typing import Literal

from unlearn.api.data import DataError, Images, Source, dataclass


@dataclass(frozen=True)
class Settings:
    dataset: Literal["cifar10", "cifar100", "svhn", "fashion-mnist"]
    root: str = "data"
    download: bool = True

    def sources(self) -> list[str]:
        """What of ``root``, where other data sets may lie too, torchvision reads."""
        parts = {
            "cifar10": ["cifar-10-batches-py"],
            "cifar100": ["cifar-100-python"],
            "svhn": ["train_32x32.mat", "test_32x32.mat"],
            "fashion-mnist": ["FashionMNIST/raw"],
        }
        return [f"{self.root}/{part}" for part in parts[self.dataset]]


def load(settings: Settings) -> Source:
    """Raises DataError if the files are neither in ``root`` nor can be downloaded."""
    import numpy as np
    from torchvision import datasets

    def open_split(train: bool):
        where = {"root": settings.root, "download": settings.download}
        match settings.dataset:
            case "cifar10":
                return datasets.CIFAR10(train=train, **where)
            case "cifar100":
                return datasets.CIFAR100(train=train, **where)
            case "svhn":
                return datasets.SVHN(split="train" if train else "test", **where)
            case "fashion-mnist":
                return datasets.FashionMNIST(train=train, **where)

    def chunk(split: str) -> Images:
        pixels, labels = np.asarray(parts[split].data), np.asarray(_labels(parts[split]))
        if settings.dataset == "fashion-mnist":
            pixels = pixels[:, None]
        elif settings.dataset != "svhn":
            pixels = pixels.transpose(0, 3, 1, 2)
        return Images(split, np.ascontiguousarray(pixels), labels)

    try:
        parts = {split: open_split(split == "train") for split in ("train", "test")}
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{settings.root}: {settings.dataset} is not there and could not be downloaded ({error})"
        ) from None
    classes = getattr(parts["train"], "classes", None) or [str(digit) for digit in range(10)]
    return Source(list(classes), (chunk(split) for split in parts))


def _labels(dataset):
    return dataset.labels if hasattr(dataset, "labels") else dataset.targets
