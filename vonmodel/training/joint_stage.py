"""Joint training stage: all networks are trained on the sum of the shape and the texture objective."""

from __future__ import annotations

from dataclasses import replace

from vonmodel.config import JointStageConfig, ShapeStageConfig, StageName, TextureStageConfig
from vonmodel.data.loader import Batch, Photos, Shapes, joined
from vonmodel.distributed import WHOLE, Part
from vonmodel.model import GENERATORS, VonModel
from vonmodel.training.shape_stage import generate, shape_critic_losses, shape_generator_loss
from vonmodel.training.stage import ImagePool, Losses, Phase, Stage, Step, adam
from vonmodel.training.texture_stage import texture_critic_losses, texture_critics, texture_losses


class JointStage(Stage):
    """Trains shapes and textures together; see `stage.Stage` for the attributes.

    The gradient of the texture terms flows through the projection into the shape generator. Shapes are generated once
    a step, and every network takes one step on its sum of terms.
    """

    config: JointStageConfig
    name: StageName = "joint"
    averaged = GENERATORS

    def __init__(
        self,
        model: VonModel,
        config: JointStageConfig,
        shape: ShapeStageConfig,
        texture: TextureStageConfig,
        shapes: Shapes,
        photos: Photos,
        *,
        fused_optimiser: bool = False,
    ) -> None:
        """Sets up the phases.

        Args:
            model: the model.
            config: schedule, and the weight of the shape terms.
            shape: objective of the shapes and its weights.
            texture: weights of the texture terms.
            shapes: prepared shapes, for the shape critic.
            photos: photos and viewpoints.
            fused_optimiser: update in one pass over memory.
        """
        self.config = config
        self.pools = {"images": ImagePool(texture.image_pool), "sketches": ImagePool(texture.image_pool)}
        self._model, self._shape, self._shapes, self._photos = model, shape, shapes, photos
        self._texture = replace(texture, batch_size=config.batch_size)
        painters = (model.texture_generator, model.sketch_encoder, model.texture_encoder)
        critics = texture_critics(model)
        betas, shape_betas = (config.beta1, config.beta2), (config.beta1, config.shape_beta2)
        rate, shape_rate = config.learning_rate, config.shape_learning_rate
        self.phases = (
            Phase(
                "generators",
                (model.shape_generator, *painters),
                adam(
                    [((model.shape_generator,), shape_rate, shape_betas), (painters, rate, betas)],
                    fused=fused_optimiser,
                ),
                self._generators,
            ),
            Phase(
                "critics",
                (model.shape_critic, *critics),
                adam(
                    [((model.shape_critic,), shape_rate, shape_betas), (critics, rate, betas)], fused=fused_optimiser
                ),
                self._critics,
            ),
        )

    def load(self, step: int, part: Part = WHOLE) -> Batch:
        """As many shapes as photos."""
        size, rows = self.config.batch_size, part.rows(self.config.batch_size)
        return joined(self._shapes.load(step, size, rows), self._photos.load(step, size, rows))

    def _generators(self, step: Step, repeat: int) -> Losses:
        batch, model = step.batch, self._model
        assert batch.volumes is not None
        assert batch.rotations is not None
        fake = generate(model, step, batch.volumes, batch.classes)
        step.made["volumes"] = fake.detach()
        adversarial = shape_generator_loss(model, batch.volumes, fake, self._shape, batch.classes)
        return {
            "shape_adversarial": self.config.shape_weight * adversarial,
            **texture_losses(model, model.sketch(fake, batch.rotations, everywhere=True), step, self._texture),
        }

    def _critics(self, step: Step, repeat: int) -> Losses:
        real = step.batch.volumes
        assert real is not None
        fake, classes = step.made["volumes"], step.batch.classes
        shape = shape_critic_losses(self._model, real, fake, step, self._shape, step.number, classes)
        weighted = {name: self.config.shape_weight * loss for name, loss in shape.items()}
        return {**weighted, **texture_critic_losses(self._model, step, self.pools, self._texture)}
