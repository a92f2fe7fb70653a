"""The device that models run on, and the arithmetic that results depend on."""

import torch


class DeviceError(RuntimeError):
    """A device that this machine does not have."""


def prepare(wanted: str | torch.device) -> torch.device:
    """The device for ``wanted`` (auto, cuda or cpu). Sets torch to exact and repeatable arithmetic.

    Raises DeviceError for cuda where there is no CUDA device.
    """
    # By default CUDA rounds the inputs of a convolution to 10 bits (TF32).
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.backends.cudnn.deterministic = True
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device: cuda, but this machine has no CUDA device")
    return torch.device(wanted)
