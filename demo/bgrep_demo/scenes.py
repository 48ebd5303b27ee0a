# SPDX-License-Identifier: Apache-2.0
"""What the demo asks for: a product, its mask in one of the three forms, and a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_bgrep.emulator.samples import Sample

MASK_FORMS = {
    "mask": "mask in one channel",
    "mask_rgb": "mask in three channels",
    "mask_rgba": "mask as alpha",
}


@dataclass(frozen=True)
class Scene:
    """One run of the DAG.

    :param name: of the emulator's sample product, and of the run.
    :param outputs: pictures to ask for.
    :param seed: random seed.
    :param mask_form: one of :data:`MASK_FORMS`.
    :param prompt: the positive prompt, if not the one that comes with the sample.
    """

    name: str
    outputs: int = 3
    seed: int = 7
    mask_form: str = "mask"
    prompt: str | None = None

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name.capitalize()

    def conf(self, samples: Mapping[str, Sample]) -> dict[str, Any]:
        """The trigger form's fields for this run."""
        sample = samples[self.name]
        return {
            "image": sample.image,
            "mask": getattr(sample, self.mask_form),
            "positive_prompt": self.prompt or sample.prompt,
            "num_output": self.outputs,
            "seed": self.seed,
        }


SCENES = (
    Scene("bottle"),
    Scene("sneaker", mask_form="mask_rgb"),
    Scene("armchair", mask_form="mask_rgba"),
    Scene("mug"),
    Scene("handbag", mask_form="mask_rgba"),
    Scene("car", mask_form="mask_rgb"),
)
