# SPDX-License-Identifier: Apache-2.0
"""What the demo asks for: a product, its mask in one of the three forms, and a prompt."""

from __future__ import annotations

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
    :param prompt: the positive prompt.
    :param outputs: pictures to ask for.
    :param seed: random seed.
    :param mask_form: one of :data:`MASK_FORMS`.
    :param negative_prompt: what the background should not hold.
    """

    name: str
    prompt: str
    outputs: int = 2
    seed: int = 7
    mask_form: str = "mask"
    negative_prompt: str | None = None

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name.capitalize()

    def conf(self, samples: dict[str, Sample]) -> dict[str, Any]:
        """The trigger form's fields for this run."""
        sample = samples[self.name]
        fields = {
            "image": sample.image,
            "mask": getattr(sample, self.mask_form),
            "positive_prompt": self.prompt,
            "num_output": self.outputs,
            "seed": self.seed,
        }
        return fields | ({"negative_prompt": self.negative_prompt} if self.negative_prompt else {})


SCENES = (Scene("bottle", "on flowing champagne silk, soft studio light", outputs=4),)
