"""The keys of a config: types, ranges, defaults and descriptions.

``workflow/schemas/config.schema.json``, for editors, and ``docs/config.md`` are generated from these classes.
"""

from collections.abc import Hashable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from unlearn.config import scope_grammar
from unlearn.config.given import ForgottenWeights, OriginalWeights
from unlearn.config.settings import (
    Budget,
    Count,
    File,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    Section,
    Seed,
    Share,
    Training,
)

Item = TypeVar("Item", bound=Hashable)


def _distinct(items: list[Any]) -> list[Any]:
    if twice := [item for item in items if items.count(item) > 1]:
        raise ValueError(f"has {twice[0]!r} twice")
    return items


def _known(scope: str) -> str:
    scope_grammar.parse(scope, between=": ")
    return scope


Several = Annotated[
    list[Item], Field(min_length=1), AfterValidator(_distinct), Field(json_schema_extra={"uniqueItems": True})
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Text = Annotated[str, Field(min_length=1)]
Scope = Annotated[
    str, AfterValidator(_known), Field(json_schema_extra={"pattern": f"^({scope_grammar.pattern(': ')})$"})
]
Values = dict[str, Any]  # settings of a plug-in, which its own declaration checks


class DataSource(Section):
    """Where images come from; the other keys are the settings of the source."""

    model_config = ConfigDict(extra="allow")

    name: str
    """A file of src/unlearn/data."""


class Normalize(Section):
    """Constants that are part of the model, for pixels in [0, 1]; not measured, so that no forgotten image leaves a
    trace in them."""

    mean: list[Share] = Field(min_length=1)
    """Mean per channel, or a single number."""
    std: list[Annotated[float, Field(ge=0.001, le=1000)]] = Field(min_length=1)
    """Deviation per channel, or a single number."""


class Augment(Section):
    """Augmentation in training, also during unlearning; none in evaluation."""

    crop: Count = 0
    """Zero padding in pixels before a random crop back to size; 0 for none."""
    flip: bool = False
    """Whether to mirror half of the images."""


class Radii(Section):
    """The radii of attacks, for pixels in [0, 1]."""

    eps: list[Annotated[float, Field(ge=0.0001, le=1000)]] = Field(min_length=1)
    """Ascending radii; float32 cannot tell smaller ones from rounding."""
    headline: float
    """The one of eps that summary figures and the main table show."""


GivenOrCalibrate = Annotated[
    Annotated[Radii, Tag("given")] | Annotated[Literal["calibrate"], Tag("calibrate")],
    Discriminator(lambda value: "calibrate" if isinstance(value, str) else "given"),
]


class Dataset(Section):
    """A data set: its source, and what follows from its images."""

    source: DataSource
    normalize: Normalize
    augment: Augment = Augment()
    eps: dict[Literal["linf", "l2"], GivenOrCalibrate] = Field(min_length=1)
    """Radii by norm; or calibrate: those at which PGD leaves 75, 50, 25 and 5 % of the original models' accuracy."""


class Architecture(Section):
    """An architecture, its recipe, and the settings of methods for it."""

    label: Text
    """Name in figures and tables."""
    model: Text
    """A timm model, smallvit, or FILE.py:FUNCTION, a function that gives a torch module."""
    args: Values = {}
    """Keyword arguments of timm.create_model, or of the function."""
    groups: Annotated[list[Several[Text]], Field(min_length=2)] | None = None
    """The groups of parameters from stem to head, each a list of beginnings of their names, for a model without timm's
    group_matcher."""
    stem: Literal["native", "cifar"] = "native"
    """cifar exchanges the stem of a ResNet for a 3x3 stride-1 convolution without pooling."""
    train: Training
    """Recipe of pretraining and of exact retraining."""
    init: File | None = None
    """Weights from which pretraining and exact retraining start; a head of other classes starts afresh."""
    weights: OriginalWeights | None = None
    """Weights of the original model, in place of pretraining with the study's seeds; the path may hold {seed}."""
    retrained: ForgottenWeights | None = None
    """Weights of the exactly retrained model; the path must hold {forget} and {seed} where the study has several."""
    trust: bool = False
    """Whether weights and retrained are taken whatever their accuracy on the images that they were trained on."""
    methods: dict[str, Values] = {}
    """Settings of methods for this architecture; they win over settings.methods."""


class Within(Section):
    """Some of the training images; all, if nothing is named."""

    classes: Annotated[list[int | str], AfterValidator(_distinct)] = []
    """Names or positions of classes."""
    column: str = ""
    """An attribute of the images, instead of classes."""
    values: Annotated[list[int | str], AfterValidator(_distinct)] = []
    """The values of that attribute, compared as texts."""

    @model_validator(mode="after")
    def _one(self) -> "Within":
        if bool(self.column) != bool(self.values) or (self.column and self.classes):
            raise ValueError("must hold either classes, or column and values")
        return self


class External(Section):
    """A model that was unlearned elsewhere. It is measured like a method on the scope all."""

    weights: dict[str, ForgottenWeights] = Field(min_length=1)
    """Weights per architecture; the path must hold {forget} and {seed} where the study has several."""
    seconds: NonNegative | None = None
    """Time that the unlearning took there; null if not known."""
    trust: bool = False
    """Whether weights are taken whatever their accuracy on the images that are retained."""


class RandomImages(Section):
    """A random fraction of the training images."""

    kind: Literal["random"]
    """Tells the kinds of forget sets apart."""
    fraction: Fraction
    """Share of the training images that is forgotten."""
    seed: Seed
    """Seed of the draw; the seeds of the study do not change it."""
    stratified: bool = False
    """Whether each class gives the same share."""
    within: Within = Within()
    """What part of the training images is drawn from; fraction is the share of that part."""


class WholeClasses(Section):
    """All training images of some classes."""

    kind: Literal["class"]
    """Tells the kinds of forget sets apart."""
    classes: Several[int | str]
    """Names or positions of classes. A number that is the name of one class and the position of another is refused."""


class ValuesOfColumn(Section):
    """The training images that have some values of an attribute, such as a person's."""

    kind: Literal["where"]
    """Tells the kinds of forget sets apart."""
    column: Text
    """An attribute, which the data source keeps (its key attributes)."""
    values: Several[int | str]
    """The values, compared as texts."""


class ListedFiles(Section):
    """The training images whose paths or file names a text file lists."""

    kind: Literal["files"]
    """Tells the kinds of forget sets apart."""
    file: File
    """A text file with a line for each image: its path from the source's root on, or its file name, if no other
    training image has it."""


class ListedImages(Section):
    """The training images whose ids a text file lists."""

    kind: Literal["ids"]
    """Tells the kinds of forget sets apart."""
    file: File
    """A text file with one id of the dataset table in a line."""


Forget = Annotated[
    RandomImages | WholeClasses | ValuesOfColumn | ListedFiles | ListedImages, Field(discriminator="kind")
]


class Samples(Section):
    """How many images of each role are attacked, stratified by class; null for all."""

    test: Budget = 1000
    """Test images."""
    retain: Budget = 1000
    """Training images that are retained."""
    forget: Budget = 1000
    """Training images that are forgotten."""


class Probe(Section):
    """The open choices of the fairness-gap; docs/architecture.md argues for the defaults."""

    at: Literal["output", "input"] = "output"
    """The side of a normalization layer that is measured."""
    sigma: Literal["channel", "pooled"] = "channel"
    """channel: standard deviation per channel over images and positions, then the mean over channels; pooled: over
    all at once."""
    channels: bool = False
    """Whether to store the deviation of each channel too."""
    roles: Several[Literal["test", "retain", "forget"]] = ["test"]
    """Images that are measured."""


class Features(Section):
    """How many images of each role are described by their features, stratified by class; null for all. Features are
    made where a metric reads them."""

    retain: Budget = 500
    """Training images that are retained."""
    forget: Budget = 500
    """Training images that are forgotten."""
    test: Budget = 500
    """Test images."""


class Relearn(Section):
    """How models learn forgotten images again, for metrics that compare how fast they do."""

    images: Natural = 5
    """Forgotten images of each class that are relearned, at most half; accuracy is measured on the others. As many
    retained images of each class are learned beside them."""
    steps: Annotated[int, Field(ge=2)] = 32
    """Steps, each on all these images at once. Accuracy is measured after 0, 1, 2, 4, … and all steps."""
    relative_lr: Positive = 0.3
    """Learning rate as a multiple of that in the architecture's train, whose optimizer is used too."""


class Tuning(Section):
    """How methods are tuned where tune is true."""

    seed: Seed = 1000
    """Seed of the models that methods are tuned on; never one of seeds."""


class Ulira(Section):
    """The shadow models of U-LiRA, where ulira is true."""

    shadows: Annotated[int, Field(ge=6)] = 16
    """Number of shadow models. The attack needs one to judge, two others on each side of an image, and one to leave
    out."""
    fraction: Fraction = 0.5
    """Share of its own half of the training images that a shadow model forgets."""
    seed: Seed = 2000
    """Seed of the shadows' halves; shadow k trains with seed + k, none of which may be one of seeds or the tuning
    seed."""


class Analysis(Section):
    """Intervals and resampling."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Level of all intervals."""
    resamples: Annotated[int, Field(ge=100)] = 2000
    """Bootstrap and permutation resamples."""
    seed: Seed = 0
    """Seed of the resampling."""


class Settings(Section):
    """What the names of a study mean, and all numbers."""

    datasets: dict[str, Dataset] = Field(min_length=1)
    """Data sets by name."""
    archs: dict[str, Architecture] = Field(min_length=1)
    """Architectures by name."""
    forgets: dict[str, Forget] = Field(min_length=1)
    """Forget sets by name."""
    methods: dict[str, Values] = {}
    """Settings of methods for all architectures, by the names of their files."""
    attacks: dict[str, Values] = {}
    """Settings of attacks, by the names of their files."""
    external: dict[Name, External] = {}
    """Models that were unlearned elsewhere, by the names that they have in tables and figures."""
    samples: Samples = Samples()
    probe: Probe = Probe()
    features: Features = Features()
    relearn: Relearn = Relearn()
    follow: Count = 0
    """Epochs between measurements of the fairness-gap along pretraining; 0 measures at its end alone."""
    tuning: Tuning = Tuning()
    ulira: Ulira = Ulira()
    analysis: Analysis = Analysis()


class Config(Section):
    """A study of unlearn. Keys that a config leaves out have their defaults."""

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    """Name of the study, whose results lie in results/<study>/."""
    dataset: str
    """One of settings.datasets."""
    archs: Several[Name]
    """Names of settings.archs."""
    forgets: Several[Name]
    """Names of settings.forgets."""
    methods: Several[Name]
    """Files of src/unlearn/methods. The controls original and retrain always run."""
    scopes: Several[Scope]
    """Layer scopes on which each method runs: first, intermediate, last, intermediate+last, all, or "groups: 3-5" of
    timm's parameter groups, of which 0 is the stem."""
    attacks: Several[Name]
    """Files of src/unlearn/attacks; summary figures show the last one."""
    seeds: Several[Seed]
    """Seeds of initialisation, data order and augmentation. More seeds give intervals and p values."""
    metrics: Several[Name]
    """Files of src/unlearn/metrics."""
    figures: Several[Name]
    """Files of src/unlearn/figures."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a CUDA device where there is one; cuda also reserves a gpu resource for each job that runs a model."""
    tune: bool = False
    """Whether to choose each method's settings first, per architecture and forget set, by the distance to exact
    retraining with settings.tuning.seed."""
    ulira: bool = False
    """Whether to run the U-LiRA membership attack on every method and scope, which takes settings.ulira.shadows more
    models of each."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of training. bfloat16 uses autocast; evaluation is always float32."""
    checkpoint_seconds: NonNegative = 60
    """Seconds of training, tuning or attack that a killed job loses at most, a step or a batch apart; 0 keeps every
    step."""
    upgrades: Literal["warn", "rerun"] = "warn"
    """What becomes of results that other versions of torch, torchvision, timm or torchattacks made: warn says so,
    rerun makes them again."""
    plugins: Annotated[list[Text], AfterValidator(_distinct)] = []
    """Folders of plug-ins outside the project, from the folder where the workflow runs on: their files methods/NAME.py,
    attacks/, metrics/, figures/ and data/ are used like the project's own, none of whose names they may have."""
    settings: Settings


def json_schema() -> dict[str, Any]:
    """The JSON schema for editors. Nothing is required: the file of a study is laid over config.yaml."""
    return _plain(Config.model_json_schema())


def _plain(node: Any) -> Any:
    """Without what editors do not use, and each description on one line."""
    if isinstance(node, dict):
        kept = {key: value for key, value in node.items() if key not in ("title", "required", "discriminator")}
        return {key: _plain(value) for key, value in kept.items()}
    return [_plain(item) for item in node] if isinstance(node, list) else _line(node)


def _line(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value
