"""Named configurations: the paper's, the same fast, today's and one that learns on two CPU cores in minutes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from vonmodel.config import (
    ComputeConfig,
    DataConfig,
    JointStageConfig,
    ModelConfig,
    ShapeStageConfig,
    TextureStageConfig,
    TrainConfig,
)

PresetName = Literal["demo", "published", "fast", "modern"]

# Half precision where it is safe, compiled where that pays; the published arithmetic otherwise.
FAST = ComputeConfig(
    precision="bfloat16", channels_last=True, fused_optimiser=True, compile="gpu", tune_convolutions=True
)

PRESETS: Mapping[PresetName, TrainConfig] = {
    "published": TrainConfig(),
    # The fused projection samples a volume once; nothing else differs from the published model.
    "fast": TrainConfig(model=ModelConfig(resampled=False), compute=FAST),
    "modern": TrainConfig(
        model=ModelConfig(
            resolution=64,
            shape_code_size=64,
            shape_base_channels=32,
            representation="signed",
            symmetric=True,
            depth_range="item",
            resampled=False,
        ),
        # Slopes spread over eight times the voxels of 32^3, where r1 = r2 = 2 was found to serve.
        shape=ShapeStageConfig(
            objective="relativistic",
            batch_size=16,
            learning_rate=5e-4,
            beta1=0.0,
            beta2=0.99,
            r1=16.0,
            r2=16.0,
            slope_every=2,
            mirror=True,
            average_half_life=10_000.0,
        ),
        texture=TextureStageConfig(average=0.999),
        joint=JointStageConfig(average=0.999),
    ),
    "demo": TrainConfig(
        model=ModelConfig(
            resolution=32,
            image_size=32,
            shape_code_size=32,
            shape_base_channels=12,
            representation="signed",
            finer_grid=64,
            symmetric=True,
            texture_base_channels=16,
            depth_range="item",
            resampled=False,
        ),
        data=DataConfig(shift_px=1),
        shape=ShapeStageConfig(
            objective="relativistic",
            batch_size=16,
            steady=600,
            decaying=250,
            unit="steps",
            learning_rate=1e-3,
            beta1=0.0,
            beta2=0.99,
            r1=2.0,
            r2=2.0,
            slope_every=2,
            mirror=True,
            average_half_life=4_000.0,
        ),
        texture=TextureStageConfig(
            batch_size=8, steady=300, decaying=100, unit="steps", learning_rate=5e-4, average=0.99
        ),
        joint=JointStageConfig(batch_size=8, steady=60, decaying=40, unit="steps", learning_rate=2e-4, average=0.99),
    ),
}
