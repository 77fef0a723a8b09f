"""The forward pass of a training step: correct the base, render it, and compute the loss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from spatialavatar.generator.network import (
    CorrectionNetwork,
    NetworkInputs,
    NetworkOutput,
    UVFeature,
    apply_corrections,
)
from spatialavatar.generator.network.heads import expression_code, harmonic_encoding, view_direction
from spatialavatar.head import HeadModel, UVLayout, to_world
from spatialavatar.metrics import Lpips
from spatialavatar.records import Camera, Gaussians, HeadParams
from spatialavatar.render import render
from spatialavatar.training.examples import Example
from spatialavatar.training.losses import (
    REGULARISERS,
    LossInputs,
    LossWeights,
    neighbour_pairs,
    training_terms,
    weighted_sum,
)


class TrainingStep(nn.Module):
    """The network and its loss as one module, which ``accelerate`` wraps."""

    def __init__(
        self,
        network: CorrectionNetwork,
        head: HeadModel,
        layout: UVLayout,
        weights: LossWeights,
        precision: str = "fp32",
        regularised: float = 1.0,
    ) -> None:
        """Store the network and the constants of the loss, all on one device.

        Args:
            network: the trained network.
            head: the head model.
            layout: of the Gaussians.
            weights: of the losses.
            precision: "fp32", or "bf16" for the encoder and the U-Net.
            regularised: as ``Phase.regularised``.
        """
        super().__init__()
        self.network = network
        self._head, self._layout, self._weights = head, layout, weights
        self._half = precision == "bf16"
        self._regularised = regularised
        self._pairs, self._lpips = neighbour_pairs(layout), Lpips().to(head.device)

    def forward(self, examples: Sequence[Example]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its unweighted terms: sums over the examples of the mean over an example's targets."""
        sums: dict[str, Tensor] = {}
        for example, feature in encoded(self.network, examples, self._half):
            for number, target in enumerate(example.targets):
                view = encoded_view(target.camera, target.params).requires_grad_()
                # A generator per target, so that the signs do not depend on other examples.
                signs = torch.Generator(self._head.device).manual_seed(example.seed + number)
                chosen = self._regularised == 1.0 or float(_uniform(example.seed + number)) < self._regularised
                output = self.network.decode(feature, view, expression_code(target.params))
                local, image, alpha = corrected(example, output, self._head, self._layout, target.params, target.camera)
                loss_inputs = LossInputs(
                    rendered=target.shown(image, alpha)[None],
                    target=target.image[None],
                    boxes=target.box[None],
                    local_means=local.means[None],
                    local_scales=local.scales[None],
                    output=output,
                    view=view,
                    pairs=self._pairs,
                )
                weights = self._weights if chosen else self._weights.without_regularisers()
                terms = training_terms(loss_inputs, weights, self._lpips, signs)
                for name in REGULARISERS:
                    if getattr(self._weights, name) != 0.0:
                        terms[name] = terms[name] / self._regularised if chosen else image.new_zeros(())
                for name, value in terms.items():
                    sums[name] = sums.get(name, torch.zeros_like(value)) + value / len(example.targets)
        return weighted_sum(sums, self._weights), {name: value.detach() for name, value in sums.items()}


def encoded(
    network: CorrectionNetwork, examples: Sequence[Example], half: bool = False
) -> Iterable[tuple[Example, UVFeature]]:
    """Encode examples: each with its UV feature (B = 1), float32. Examples with equally many sources form one batch.

    With ``half``, the encoder and the U-Net run in bf16. Heads, renders and losses stay in float32, because 8 bits of
    mantissa are too few for them.
    """
    groups: dict[int, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.inputs.images.shape[1], []).append(example)
    for group in groups.values():
        inputs = NetworkInputs.cat([example.inputs for example in group])
        with torch.autocast(inputs.images.device.type, torch.bfloat16, enabled=half):
            feature = network.features(inputs)
        yield from zip(group, feature.split())


def _uniform(seed: int) -> Tensor:
    """Return a number in [0, 1) from a seed, drawn on the CPU and thus equal on every device."""
    return torch.rand((), generator=torch.Generator().manual_seed(seed))


def encoded_view(camera: Camera, params: HeadParams) -> Tensor:
    """Return (1, 27) the encoded view direction of one frame."""
    return harmonic_encoding(view_direction(camera, params))


def corrected(
    example: Example, output: NetworkOutput, head: HeadModel, layout: UVLayout, params: HeadParams, camera: Camera
) -> tuple[Gaussians, Tensor, Tensor]:
    """Return the corrected local Gaussians and, for one frame, their render (S, S, 3) and alpha (S, S)."""
    local = apply_corrections(example.base, output.corrections[0])
    return local, *rendered(example, local, head, layout, params, camera)


def rendered(
    example: Example, local: Gaussians, head: HeadModel, layout: UVLayout, params: HeadParams, camera: Camera
) -> tuple[Tensor, Tensor]:
    """Render an example's local Gaussians in one frame: the first three channels (S, S, 3), and alpha (S, S)."""
    vertices = head.vertices(params, example.offsets)[0]
    # Channels beyond the third are not used yet.
    return render(to_world(local.replace(colors=local.colors[:, :3]), head, layout, vertices), camera)
