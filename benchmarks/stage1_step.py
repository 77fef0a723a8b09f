"""Time and memory of stage 1's network on a CPU.

Measures the network's share of an avatar (features, heads and residual of one person), a frame with and without the
residual, one forward pass as in training, and one training step. The first two are CPU times on one thread, as in
``generate`` and ``drive``; other work on the machine changes those least.

    python benchmarks/stage1_step.py small --sources 1 --repeats 5
    python benchmarks/stage1_step.py paper --sources 1

Weights and pictures are random, so that nothing is fetched: costs are real, quality is not measured. The encoder
of the paper (DINOv3 ViT-B/16) has its real size.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from spatialavatar.avatar import Avatar, default_head
from spatialavatar.driving import portrait_view
from spatialavatar.generator.network import CorrectionNetwork, NetworkConfig, NetworkInputs, apply_corrections, encoders
from spatialavatar.head import build_layout, to_world
from spatialavatar.metrics import Lpips
from spatialavatar.records import Camera, Gaussians
from spatialavatar.render import render
from spatialavatar.threads import one_torch_thread
from spatialavatar.training import LossInputs, LossWeights, training_terms, weighted_sum
from spatialavatar.training.losses import neighbour_pairs

SIZE = 512


def random_vit(name: str, revision: str | None = None):
    from transformers import AutoModel, DINOv3ViTConfig

    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    return AutoModel.from_config(DINOv3ViTConfig(**sizes, patch_size=16, num_register_tokens=4))


def cpu_times(runs: Sequence[Callable[[], object]], repeats: int) -> list[list[float]]:
    """CPU seconds of each run, taken in turn after a warm-up round."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(repeats + 1):
        for run, taken in zip(runs, times):
            start = time.process_time()
            run()
            if turn:
                taken.append(time.process_time() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", choices=("small", "paper"))
    parser.add_argument("--sources", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(0)
    encoders.load_transformer = random_vit
    head = default_head()
    layout = build_layout(head)
    count = len(layout)
    network = CorrectionNetwork(getattr(NetworkConfig, args.config)(), head, layout)
    inputs = NetworkInputs(
        images=torch.rand(1, args.sources, 3, SIZE, SIZE),
        places=torch.rand(1, args.sources, count, 2),
        weights=torch.rand(1, args.sources, count),
        known=torch.rand(1, count, 7),
    )
    view, expression = torch.rand(1, 27).requires_grad_(), torch.rand(1, head.expression_count + 12)
    identity_quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(count, 1)
    base = Gaussians(
        torch.zeros(count, 3),
        identity_quats,
        torch.full((count, 3), 0.2),
        torch.full((count,), 0.9),
        inputs.known[0, :, :3],
    )
    vertices = head.vertices(head.neutral().replace(translation=torch.tensor([[0.0, 0.0, -0.76]])))[0]
    camera, target, pairs, lpips = Camera.frontal(SIZE), torch.rand(1, SIZE, SIZE, 3), neighbour_pairs(layout), Lpips()
    weights = LossWeights(residual=1e-2)

    def forward() -> None:
        with torch.inference_mode():
            network(inputs, view, expression)

    def step() -> None:
        output = network(inputs, view, expression)
        local = apply_corrections(base, output.corrections[0])
        image, _ = render(to_world(local, head, layout, vertices), camera)
        boxes, rendered = torch.tensor([[150.0, 150.0, 350.0, 350.0]]), image[None, ..., :3]
        means, scales = local.means[None], local.scales[None]
        terms = training_terms(LossInputs(rendered, target, boxes, means, scales, output, view, pairs), weights, lpips)
        network.zero_grad()
        weighted_sum(terms, weights).backward()

    parameters = sum(p.numel() for p in network.parameters()) / 1e6
    channels = network.config.color_channels
    print(f"{args.config}: {parameters:.1f} M parameters, {count} Gaussians, {SIZE} px, {channels} colour channels")

    def person() -> Avatar:
        with torch.no_grad():
            feature = network.features(inputs)
            local = apply_corrections(base, network.decode(feature, view).corrections[0])
        residual = network.residual.of_person(feature.values[0], feature.correction_weight[0])
        local = local.replace(colors=local.colors[:, :3])
        shape = torch.zeros(head.shape_count)
        return Avatar(head, layout, shape, local, head.neutral(), Camera.frontal(SIZE), residual=residual)

    with one_torch_thread():
        (made,) = cpu_times([person], args.repeats)
        print(f"share of an avatar, K = {args.sources}: {min(made):.2f} to {max(made):.2f} s of CPU time")
        avatar = person()
        plain, identity = replace(avatar, residual=None), avatar.identity()
        portrait, home = portrait_view(avatar)
        params = head.neutral().replace(translation=home[None])

        def frame(of: Avatar) -> Callable[[], object]:
            return lambda: render(of.pose(params, identity), portrait)

        with torch.inference_mode():
            without, with_it = (1e3 * statistics.median(t) for t in cpu_times([frame(plain), frame(avatar)], 15))
        print(f"a frame: {without:.0f} ms of CPU time without the residual, {with_it:.0f} ms with it, medians of 15")
    for name, run in (("forward", forward), ("training step", step)):
        walls = []
        for _ in range(args.repeats):
            start = time.perf_counter()
            run()
            walls.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{name}: {min(walls):.2f} s at best, {max(walls):.2f} s at worst of {args.repeats}; peak {peak:.1f} GiB")


if __name__ == "__main__":
    main()
