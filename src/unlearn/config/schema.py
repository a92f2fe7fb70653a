"""The keys of a config: types, ranges, defaults and descriptions.

``workflow/schemas/config.schema.json`` for editors and ``docs/config.md`` are generated from these classes.
"""

from collections.abc import Hashable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag

from unlearn.config import scope_grammar
from unlearn.config.settings import Budget, Count, File, Fraction, NonNegative, Section, Seed, Share, Training

Item = TypeVar("Item", bound=Hashable)


def _distinct(items: list[Any]) -> list[Any]:
    if twice := [item for item in items if items.count(item) > 1]:
        raise ValueError(f"has {twice[0]!r} twice")
    return items


def _known_scope(scope: str) -> str:
    scope_grammar.parse(scope, between=": ")
    return scope


Several = Annotated[
    list[Item], Field(min_length=1), AfterValidator(_distinct), Field(json_schema_extra={"uniqueItems": True})
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Text = Annotated[str, Field(min_length=1)]
Scope = Annotated[
    str,
    AfterValidator(_known_scope),
    Field(json_schema_extra={"pattern": f"^({scope_grammar.pattern(': ')})$"}),
]
Values = dict[str, Any]  # settings of a plug-in, which its own declaration checks


class DataSource(Section):
    """Where images come from; ``name`` is a file of src/unlearn/data, the other keys are its settings."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(description="A file of src/unlearn/data.")


class Normalize(Section):
    """Constants that are part of the model, one per channel or one for all, for pixels in [0, 1]. They are constants
    so that no forgotten image leaves a trace in them."""

    mean: list[Share] = Field(min_length=1, description="Mean per channel, or a single number.")
    std: list[Annotated[float, Field(ge=0.001, le=1000)]] = Field(
        min_length=1, description="Deviation per channel, or a single number."
    )


class Augment(Section):
    """Augmentation in training, also during unlearning; none in evaluation."""

    crop: Count = Field(0, description="Zero padding in pixels before a random crop back to size; 0 for none.")
    flip: bool = Field(False, description="Whether to mirror half of the images.")


class Radii(Section):
    """The radii of attacks by a norm, in pixels of [0, 1]."""

    eps: list[Annotated[float, Field(ge=0.0001, le=1000)]] = Field(
        min_length=1, description="Ascending radii; float32 cannot tell smaller ones from rounding."
    )
    headline: float = Field(description="The one of eps that summary figures and the main table show.")


RadiiOrCalibrate = Annotated[
    Annotated[Radii, Tag("given")] | Annotated[Literal["calibrate"], Tag("calibrate")],
    Discriminator(lambda value: "calibrate" if isinstance(value, str) else "given"),
]


class Dataset(Section):
    """A data set: its source, and what follows from its images."""

    source: DataSource
    normalize: Normalize
    augment: Augment = Augment()
    eps: dict[Literal["linf", "l2"], RadiiOrCalibrate] = Field(
        min_length=1,
        description="Radii by norm; or calibrate: those at which PGD leaves 75, 50, 25 and 5 % of the original models' "
        "accuracy.",
    )


class Architecture(Section):
    """An architecture, its recipe, and the settings of methods for it."""

    label: Text = Field(description="Name in figures and tables.")
    model: Text = Field(description="A timm model, or smallvit.")
    args: Values = Field({}, description="Keyword arguments of timm.create_model.")
    stem: Literal["native", "cifar"] = Field(
        "native",
        description="cifar exchanges the stem of a ResNet for a 3x3 stride-1 convolution without pooling.",
    )
    train: Training = Field(description="Recipe of pretraining and of exact retraining.")
    methods: dict[str, Values] = Field(
        {}, description="Settings of methods for this architecture; they win over settings.methods."
    )


class RandomImages(Section):
    """A random fraction of the training images."""

    kind: Literal["random"]
    fraction: Fraction = Field(description="Share of the training images that is forgotten.")
    seed: Seed = Field(description="Seed of the draw; the seeds of the study do not change it.")


class WholeClasses(Section):
    """All training images of some classes."""

    kind: Literal["class"]
    classes: Several[int | str] = Field(description="Names or indices of classes.")


class ListedImages(Section):
    """The training images whose ids a text file lists."""

    kind: Literal["ids"]
    file: File = Field(description="A text file with one id of the dataset table in a line.")


class Samples(Section):
    """How many images of each role are attacked, stratified by class; null for all."""

    test: Budget = Field(1000, description="Test images.")
    retain: Budget = Field(1000, description="Training images that are retained.")
    forget: Budget = Field(1000, description="Training images that are forgotten.")


class Probe(Section):
    """The open choices of the fairness-gap; see docs/architecture.md."""

    at: Literal["output", "input"] = Field("output", description="The side of a normalization layer to measure.")
    sigma: Literal["channel", "pooled"] = Field(
        "channel",
        description="channel: standard deviation per channel over images and positions, then the mean over channels; "
        "pooled: over all at once.",
    )
    channels: bool = Field(False, description="Whether to store the deviation of each channel too.")
    roles: Several[Literal["test", "retain", "forget"]] = Field(["test"], description="Images that are measured.")


class Tuning(Section):
    """How methods are tuned where tune is true."""

    seed: Seed = Field(1000, description="Seed of the models that methods are tuned on; never one of seeds.")


class Ulira(Section):
    """The shadow models of U-LiRA, where ulira is true."""

    shadows: Annotated[int, Field(ge=6)] = Field(
        16,
        description="Number of shadow models. The attack needs one to judge, two others on each side of an image, and "
        "one to leave out.",
    )
    fraction: Fraction = Field(
        0.5, description="Share of its own half of the training images that a shadow model forgets."
    )
    seed: Seed = Field(
        2000,
        description="Seed of the shadows' halves; shadow k trains with seed + k, none of which may be one of seeds or "
        "the tuning seed.",
    )


class Analysis(Section):
    """Intervals and resampling."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(0.95, description="Level of all intervals.")
    resamples: Annotated[int, Field(ge=100)] = Field(2000, description="Bootstrap and permutation resamples.")
    seed: Seed = Field(0, description="Seed of the resampling.")


class Settings(Section):
    """What the names of a study mean, and all numbers."""

    datasets: dict[str, Dataset] = Field(min_length=1, description="Data sets by name.")
    archs: dict[str, Architecture] = Field(min_length=1, description="Architectures by name.")
    forgets: dict[str, Annotated[RandomImages | WholeClasses | ListedImages, Field(discriminator="kind")]] = Field(
        min_length=1, description="Forget sets by name."
    )
    methods: dict[str, Values] = Field({}, description="Settings of methods for all architectures; see methods.md.")
    attacks: dict[str, Values] = Field({}, description="Settings of attacks, by the names of their files.")
    samples: Samples = Samples()
    probe: Probe = Probe()
    follow: Count = Field(
        0, description="Epochs between measurements of the fairness-gap along pretraining; 0 measures at its end alone."
    )
    tuning: Tuning = Tuning()
    ulira: Ulira = Ulira()
    analysis: Analysis = Analysis()


class Config(Section):
    """A study of unlearn. Keys that a config leaves out have their defaults."""

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] = Field(
        description="Name of the study, whose results lie in results/<study>/."
    )
    dataset: str = Field(description="One of settings.datasets.")
    archs: Several[Name] = Field(description="Names of settings.archs.")
    forgets: Several[Name] = Field(description="Names of settings.forgets.")
    methods: Several[Name] = Field(
        description="Files of src/unlearn/methods. The controls original and retrain always run."
    )
    scopes: Several[Scope] = Field(
        description="Layer scopes on which each method runs: first, intermediate, last, intermediate+last, all, or "
        '"groups: 3-5" of timm\'s parameter groups, 0 being the stem.'
    )
    attacks: Several[Name] = Field(description="Files of src/unlearn/attacks; summary figures show the last one.")
    seeds: Several[Seed] = Field(
        description="Seeds of initialisation, data order and augmentation. More seeds give intervals and p values."
    )
    metrics: Several[Name] = Field(description="Files of src/unlearn/metrics.")
    figures: Several[Name] = Field(description="Files of src/unlearn/figures.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="auto takes a CUDA device where there is one; cuda also reserves a gpu resource for each job that "
        "runs a model.",
    )
    tune: bool = Field(
        False,
        description="Whether to choose each method's settings first, per architecture and forget set, by the distance "
        "to exact retraining with settings.tuning.seed.",
    )
    ulira: bool = Field(
        False,
        description="Whether to run the U-LiRA membership attack on every method and scope, which takes "
        "settings.ulira.shadows more models of each.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Arithmetic of training. bfloat16 uses autocast; evaluation is always float32."
    )
    checkpoint_seconds: NonNegative = Field(
        60,
        description="Seconds of training, tuning or attack that a killed job loses at most, a step or a batch apart; "
        "0 keeps every step.",
    )
    upgrades: Literal["warn", "rerun"] = Field(
        "warn",
        description="What becomes of results that other versions of torch, torchvision, timm or torchattacks made: "
        "warn says so, rerun makes them again.",
    )
    settings: Settings
