"""Training configuration: frozen dataclasses that hold every default, and reading and writing them as JSON."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin

from vondata.errors import VonError
from vonmodel.precision import Precision
from vonmodel.run_files import MAX_JSON_BYTES, JsonError, parse_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Representation = Literal["occupancy", "distance", "signed"]
DepthRange = Literal["item", "batch"]
PainterKind = Literal["published", "geometry", "field"]
CriticKind = Literal["patch", "residual"]
StageName = Literal["shape", "texture", "joint"]
STAGES: tuple[StageName, ...] = get_args(StageName)


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and variants of the networks and the projection; the defaults are the published model.

    Attributes:
        resolution: voxels along an edge of the cube.
        image_size: pixels along an edge of sketch and image.
        shape_code_size: length of the shape code z_shape.
        texture_code_size: length of the texture code z_texture.
        shape_base_channels: width of the shape networks next to the volume.
        texture_base_channels: width of the 2D generators, encoders and critics next to the image.
        representation: shapes as occupancy, as exp(-8 d) of the unsigned distance d in cube edges, or as signed
            distance clipped at `band`.
        band: largest signed distance that a volume holds, in cube edges; a voxel is 1 / (resolution - 1).
        opacity_width: width of the edge of a signed shape, in cube edges: the distance over which the log odds of its
            opacity change by one.
        finer_grid: voxels along an edge of the grid that a signed shape is interpolated to before it is rendered or
            meshed; ignored unless finer than `resolution`.
        shape_encoder: train an encoder of volumes with the shape generator: mesh -> shape code.
        shape_prior: coupling layers of the normalising flow that maps normal codes to those of the encoder, trained
            with it; with 0 the generator takes normal codes directly.
        symmetric: generated shapes are their own mirror images at x = 0: the half at x > 0 is generated.
        depth_range: depth is normalised over each item or over the whole batch (published).
        resampled: the published two-pass projection instead of sampling the volume once.
        rays_per_pixel: rays along an edge of each pixel of the framed sketch, averaged; 1 is published.
        exact_framing: frame sketches as photos are, centred and with a margin of 3 %, instead of in whole pixels.
        camera_distance: from the camera to the centre of the cube, in half edges; the focal length keeps the size of
            the image.
        painter: the published texture generator and sketch encoder, with normalised depth as the only map; or a U-Net
            on silhouette, depth, normals and positions of the surface (geometry), or a texture field on its points
            (field), with matching encoders.
        surface_encoder: the sketch encoder of that painter predicts normals and positions as well, and the texture
            encoder the variance of codes, so that a photo can be reconstructed (`texture.image_cycle`).
        critics: patch critics of images and of sketches with instance norm (published), or one residual critic of
            images with masks without any norm.
        classes: names of the classes of one model, in the order of their embeddings; empty for a model of one class.
        class_embedding: length of the embedding of a class, in the shape generator and in the painter.
    """

    resolution: Count = 128
    image_size: Count = 128
    shape_code_size: Count = 200
    texture_code_size: Count = 8
    shape_base_channels: Count = 64
    texture_base_channels: Count = 64
    representation: Representation = "occupancy"
    band: Length = 0.06
    opacity_width: Length = 0.002
    finer_grid: Natural = 0
    shape_encoder: bool = False
    shape_prior: Natural = 0
    symmetric: bool = False
    depth_range: DepthRange = "batch"
    resampled: bool = True
    rays_per_pixel: Count = 1
    exact_framing: bool = False
    camera_distance: Distance = 2.0
    painter: PainterKind = "published"
    surface_encoder: bool = False
    critics: CriticKind = "patch"
    classes: tuple[str, ...] = ()
    class_embedding: Count = 16


@dataclass(frozen=True)
class DataConfig:
    """Augmentation of photos, distribution of viewpoints, and the split that is trained on.

    Attributes:
        hue_jitter: largest shift of the hue, as a fraction of the colour circle.
        shift_px: largest shift of a photo and its mask on each axis, in pixels.
        mirror: mirror every second photo; only classes with mirror symmetry are mirrored, and the azimuth with them.
        viewpoints: distribution of the viewpoints sampled for photos without one: that of the dataset's known ones
            (of the class file where there is none), or always that of the class file.
        split: train on the training split of the dataset, or on all of it, which makes held-out scores meaningless.
    """

    hue_jitter: Share = 0.1
    shift_px: Natural = 2
    mirror: bool = True
    viewpoints: Literal["dataset", "class"] = "dataset"
    split: Literal["train", "all"] = "train"


@dataclass(frozen=True)
class StageConfig:
    """Settings that all stages share: length, batch size, optimiser.

    Attributes:
        batch_size: items a step.
        steady: length at the full learning rate, in `unit`.
        decaying: length over which the learning rate falls linearly to zero, in `unit`.
        unit: whether lengths count steps or passes over the larger of the stage's datasets.
        learning_rate: Adam's step size for the networks of this stage.
        beta1: Adam's decay of the mean gradient.
        beta2: Adam's decay of the mean squared gradient.
        average: decay of the running average of the generators' weights that samples are drawn with; 0 keeps none.
        average_half_life: half-life of that average, in items seen, in place of `average`; 0 uses `average`.
        class_from: fraction of the stage before which a model of several classes is trained without the class.
        class_until: fraction of the stage from which the class has its full weight; linear in between.
    """

    batch_size: Count
    steady: Amount
    decaying: Amount
    unit: Literal["steps", "epochs"] = "epochs"
    learning_rate: Amount = 2e-4
    beta1: Decay = 0.5
    beta2: Decay = 0.999
    average: Decay = 0.0
    average_half_life: Amount = 0.0
    class_from: Share = 0.1
    class_until: Share = 0.4

    def class_share(self, step: int, steps: int) -> float:
        """The weight of the class conditioning at a step of a stage of this many steps, in [0, 1].

        Conditioning from the start makes a GAN on little data collapse; one trained without the class first does not
        when the class is added (Shahbazi et al. 2022, "Collapse by Conditioning").
        """
        begin, end = self.class_from * steps, self.class_until * steps
        return min(1.0, max(0.0, (step - begin) / (end - begin))) if end > begin else float(step >= end)

    def steps(self, items: int) -> tuple[int, int]:
        """Steady and decaying steps of the stage on a dataset of this many items; an epoch has at least one step."""
        per_unit = 1 if self.unit == "steps" else max(1, items // self.batch_size)
        return round(self.steady * per_unit), round(self.decaying * per_unit)

    @property
    def schedule(self) -> str:
        """The length as text: steady and decaying part, and their unit."""
        return f"{self.steady:g}+{self.decaying:g} {self.unit}"


@dataclass(frozen=True)
class ShapeStageConfig(StageConfig):
    """Shape generator against its critic.

    Attributes:
        objective: WGAN-GP (published), or a relativistic pairing loss with R1 and R2 penalties.
        critic_steps: updates of the critic for each update of the generator.
        gradient_penalty: weight of WGAN-GP's penalty on the critic's gradient norm.
        r1: weight of the critic's squared gradient norm on prepared shapes, with the relativistic objective.
        r2: the same on generated shapes.
        slope_every: R1 and R2 are computed in one of this many updates of the critic, with as many times the weight.
        mirror: mirror every second prepared shape of a class with mirror symmetry.
        reconstruction: weight of half the squared error, summed over voxels, between a prepared shape and its
            reconstruction by encoder and generator; with a shape encoder.
        thicken: offset by which prepared shapes are thickened on every side, in cube edges: generators thin out what
            is uncertain, and thin parts break. For signed distances.
        kl: weight of the KL divergence of the shape encoder's codes from the normal distribution.
        critic_from: first fraction of the stage, with the reconstruction loss and without the critic.
    """

    batch_size: Count = 8
    steady: Amount = 250
    decaying: Amount = 250
    learning_rate: Amount = 1e-4
    beta2: Decay = 0.9
    objective: Literal["wgan-gp", "relativistic"] = "wgan-gp"
    critic_steps: Count = 1
    gradient_penalty: Amount = 10.0
    r1: Amount = 2.0
    r2: Amount = 2.0
    slope_every: Count = 1
    mirror: bool = False
    reconstruction: Amount = 0.0
    thicken: Share = 0.0
    kl: Amount = 0.0
    critic_from: Share = 0.0


@dataclass(frozen=True)
class TextureStageConfig(StageConfig):
    """Texture generator, sketch encoder and texture encoder against the critics of image and sketch.

    The weights are those of the terms of the paper's objective; the joint stage uses them too.

    Attributes:
        generated_share: last fraction of the stage that renders generated shapes in place of prepared ones.
        image_pool: number of past fakes kept to show a critic again; 0 shows it only the newest.
        sketch_cycle: weight of sketch -> image -> sketch.
        image_cycle: weight of image -> sketch and texture code -> image.
        texture_cycle: weight of texture code -> image -> texture code.
        kl: weight of the KL divergence of the texture encoder's codes from the normal distribution.
        mask: weight of the fake sketch staying inside the photo's mask.
        objective: least squares with the three cycles and a sketch critic (published), or a relativistic loss on
            pairs of one real and one generated image, augmented alike, with the cycles of code and sketch.
            `image_pool` applies to the published objective only; the relativistic one uses `image_cycle` and `kl`
            only with `model.surface_encoder`.
        r1: weight of the relativistic critic's squared gradient norm on photos.
        r2: the same on generated images.
        slope_every: steps from one such penalty to the next, which has as many times the weight.
        augment_colour: strength of the colour augmentation of the relativistic critic's inputs, see
            `training.texture_stage`.
        augment_shift: largest shift of that augmentation, as a fraction of the image's side.
    """

    batch_size: Count = 12
    steady: Amount = 100
    decaying: Amount = 100
    generated_share: Share = 0.5
    image_pool: Natural = 50
    sketch_cycle: Amount = 10.0
    image_cycle: Amount = 25.0
    texture_cycle: Amount = 1.0
    kl: Amount = 0.001
    mask: Amount = 2.5
    objective: Literal["least-squares", "relativistic"] = "least-squares"
    r1: Amount = 2.0
    r2: Amount = 2.0
    slope_every: Count = 1
    augment_colour: Share = 0.0
    augment_shift: Share = 0.0


@dataclass(frozen=True)
class JointStageConfig(StageConfig):
    """All networks on the sum of the shape and the texture objective.

    Attributes:
        shape_weight: weight of the shape terms against the texture terms.
        shape_learning_rate: Adam's step size for the shape networks.
        shape_beta2: Adam's decay of the mean squared gradient for the shape networks.
    """

    batch_size: Count = 6
    steady: Amount = 100
    decaying: Amount = 100
    shape_weight: Amount = 0.05
    shape_learning_rate: Amount = 1e-4
    shape_beta2: Decay = 0.9
    class_from: Share = 0.0
    class_until: Share = 0.0


@dataclass(frozen=True)
class OutputConfig:
    """Intervals of logs, samples and checkpoints, and loading; may differ between a run and its continuation.

    Attributes:
        log_every: steps between two lines of losses.
        sample_every: steps between two sample sheets; 0 draws one at the end of each stage only.
        save_every: steps between two checkpoints; 0 saves at the end of each stage only.
        keep: number of newest checkpoints kept per stage.
        workers: threads that decode shapes and photos ahead of the step.
        cache_mb: memory for decoded shapes and photos, in MB.
    """

    log_every: Count = 50
    sample_every: Natural = 500
    save_every: Natural = 500
    keep: Count = 2
    workers: Natural = 2
    cache_mb: Natural = 2048


@dataclass(frozen=True)
class ComputeConfig:
    """How steps are computed; changes results by rounding only.

    Attributes:
        precision: number type of the convolutions; weights, losses, projection and gradient penalty stay float32.
            float64 applies to all of them and tells an error from rounding; it is slow.
        channels_last: store convolution weights channels-last, for tensor cores; on a CPU they always are.
        fused_optimiser: update all weights in one pass over memory.
        compile: compile the networks: on GPUs, where it pays within minutes, or everywhere.
        tune_convolutions: let cuDNN benchmark its algorithms and take the fastest, which can differ between runs.
        accumulate: micro-batches that a process splits a batch into, where it does not fit into memory. Batch-norm
            statistics and the depth range of a batch are then those of a micro-batch.
    """

    precision: Precision = "float32"
    channels_last: bool = False
    fused_optimiser: bool = False
    compile: Literal["never", "gpu", "always"] = "never"
    tune_convolutions: bool = False
    accumulate: Count = 1


@dataclass(frozen=True)
class TrainConfig:
    """The complete configuration of a training run.

    Attributes:
        class_name: the class; of a model of several the selected one, in training the first.
        seed: of all random numbers.
        model: see the dataclasses, like the other fields.
    """

    class_name: str = "chair"
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    shape: ShapeStageConfig = field(default_factory=ShapeStageConfig)
    texture: TextureStageConfig = field(default_factory=TextureStageConfig)
    joint: JointStageConfig = field(default_factory=JointStageConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    output: OutputConfig = field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        check_ranges(self)
        classes = self.model.classes
        if classes and (len(set(classes)) != len(classes) or len(classes) < 2 or self.class_name not in classes):
            raise ConfigError(
                f"model.classes is {', '.join(classes)}: it must name two or more classes, each once, "
                f"class_name among them, now {self.class_name}"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the model."""
        return self.model.classes or (self.class_name,)

    def check_objective(self) -> None:
        """Checks that objectives and networks fit together.

        Raises:
            ConfigError: names the two fields that exclude each other.
        """
        for name, value in (("painter", self.model.painter), ("critics", self.model.critics)):
            if value in ("geometry", "field", "residual") and self.texture.objective != "relativistic":
                raise ConfigError(
                    f"model.{name} is {value}: it is trained by pairs; set texture.objective to relativistic, "
                    f"now {self.texture.objective}"
                )
        if self.model.surface_encoder and self.model.painter == "published":
            raise ConfigError(
                "model.surface_encoder is for a painter that sees surfaces; "
                "set model.painter to field, or model.surface_encoder to false"
            )
        if not self.model.shape_encoder and (self.shape.reconstruction or self.shape.critic_from):
            raise ConfigError(
                "shape.reconstruction and shape.critic_from are for a model with an encoder of shapes; "
                "set model.shape_encoder to true, or them to 0"
            )
        if self.model.shape_encoder and not self.shape.reconstruction:
            raise ConfigError("model.shape_encoder is true: shape.reconstruction must be more than 0, now it is 0")
        if self.model.shape_prior and not self.model.shape_encoder:
            raise ConfigError(
                "model.shape_prior is learned from an encoder's codes; set model.shape_encoder to true, or "
                "model.shape_prior to 0"
            )
        if self.model.shape_prior and self.model.shape_code_size % 2:
            raise ConfigError("model.shape_prior is for an even model.shape_code_size; set it to 0")

    def stage(self, name: StageName) -> ShapeStageConfig | TextureStageConfig | JointStageConfig:
        """The configuration of one stage."""
        match name:
            case "shape":
                return self.shape
            case "texture":
                return self.texture
            case "joint":
                return self.joint


def save_config(config: TrainConfig, path: Path) -> None:
    """Writes the configuration as JSON, every field named."""
    path.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n", encoding="utf-8")


def load_config(path: Path, base: TrainConfig | None = None) -> TrainConfig:
    """Reads a JSON configuration; fields it does not name keep their value in `base`.

    Raises:
        ConfigError: the file cannot be read, names an unknown field or holds a value of the wrong type.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise ConfigError(f"{path} is not a configuration: it has more than {MAX_JSON_BYTES:,} bytes")
        values = parse_json(content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except JsonError as error:
        raise ConfigError(f"{path} {error}") from error
    return update(base or TrainConfig(), values, str(path))


def apply_setting(config: TrainConfig, setting: str) -> TrainConfig:
    """The configuration with one `stage.field=value` of the command line applied.

    Raises:
        ConfigError: not of this form, an unknown field, or a value of the wrong type.
    """
    path, equals, text = setting.partition("=")
    if not equals:
        raise ConfigError(f"{setting!r}: write it as stage.field=value, for example shape.learning_rate=1e-4")
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    for name in reversed(path.strip().split(".")):
        value = {name: value}
    return update(config, value, f"setting {path.strip()}")


def difference(ours: TrainConfig, theirs: TrainConfig) -> list[str]:
    """Dotted names of the fields that differ, without those of `output`, which do not change the model."""
    before, after = dict(walk(ours)), dict(walk(theirs))
    return [name for name, value in before.items() if value != after[name] and not name.startswith("output.")]


def value_of(config: TrainConfig, dotted: str) -> Any:
    """The value of a field by its dotted name, as `difference` gives it."""
    return dict(walk(config))[dotted]


# --- trees of typed fields with ranges: walk, check and change them

Config = TypeVar("Config", bound="DataclassInstance")


class ConfigError(VonError, ValueError):
    """A configuration that names an unknown field or holds a value that its field cannot take."""


@dataclass(frozen=True)
class Range:
    """The range of a number: from `least` up to `most`, which is excluded if `below`."""

    least: float
    most: float = math.inf
    below: bool = False

    def __contains__(self, value: float) -> bool:
        return self.least <= value < self.most if self.below else self.least <= value <= self.most < math.inf

    def __str__(self) -> str:
        if math.isinf(self.most):
            return f"at least {self.least:g}"
        return f"at least {self.least:g} and {'under' if self.below else 'at most'} {self.most:g}"


Count = Annotated[int, Range(1, math.inf, below=True)]
Natural = Annotated[int, Range(0, math.inf, below=True)]
Amount = Annotated[float, Range(0, math.inf, below=True)]
Length = Annotated[float, Range(1e-4, 1)]
Share = Annotated[float, Range(0, 1)]
Distance = Annotated[float, Range(1.5, 100)]
Decay = Annotated[float, Range(0, 1, below=True)]


def walk(config: DataclassInstance, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of all fields that are not configurations themselves."""
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from walk(value, f"{prefix}{each.name}.")
        else:
            yield prefix + each.name, value


def check_ranges(config: DataclassInstance, prefix: str = "") -> None:
    """Checks every number against the range in its field's annotation.

    Raises:
        ConfigError: a number lies outside; the message gives its dotted name.
    """
    for name, hint in typing.get_type_hints(type(config), include_extras=True).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            check_ranges(value, f"{prefix}{name}.")
        for allowed in getattr(hint, "__metadata__", ()):
            if value not in allowed:
                raise ConfigError(f"{prefix}{name} is {value}: it must be {allowed}")


def update(config: Config, values: Any, place: str) -> Config:
    """The configuration with some fields replaced by (nested) JSON values.

    Args:
        config: a configuration dataclass.
        values: what to replace; nested mappings for nested configurations.
        place: what to call the source of the values in an error.

    Raises:
        ConfigError: an unknown field, or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{place}: expected a table of fields, not {values!r}")
    types = typing.get_type_hints(type(config))
    changes = {}
    for name, value in values.items():
        _check_known(name, list(types), place)
        current = getattr(config, name)
        if dataclasses.is_dataclass(current) and not isinstance(current, type):
            changes[name] = update(current, value, f"{place}: {name}")
        else:
            changes[name] = _typed(value, types[name], f"{place}: {name}")
    return dataclasses.replace(config, **changes)


def _check_known(name: str, known: list[str], place: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(known)}"
        raise ConfigError(f"{place}: unknown field {name!r}; {hint}")


def _typed(value: Any, wanted: Any, place: str) -> Any:
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise ConfigError(f"{place}: {value!r} is not one of {', '.join(get_args(wanted))}")
        return value
    if get_origin(wanted) is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            raise ConfigError(f"{place}: {value!r} is not a list of names")
        return tuple(value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise ConfigError(f"{place}: {value!r} is not of type {wanted.__name__}")
    return value
