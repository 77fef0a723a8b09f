r"""Ablations of stage 1's network and training at small scale: each part is left out once.

    python scripts/render_rig.py neutral/*.jpg --motions examples/motions/expressions.json \
        examples/motions/look_around.json --yaws -40 0 20 40 --instants 6 --out rigs
    spatialavatar shards rigs --out shards/rigs
    spatialavatar shards photos --photos --out shards/photos
    python benchmarks/stage1_ablations.py shards/rigs shards/photos --held-out 'london_005' 'london_010' --out ablations

The rigs are renders of our avatars by five exact cameras, the photos two of each person with different expressions.
Held-out people are in neither training set. All variants draw the same examples in the same order, so that they share a
cache of bases; one starts from other random weights, which measures how much chance alone moves the figures. Finished
variants are kept, so that an interrupted command can be repeated.

Variants that no configuration describes are subclasses in this file; the package has no code for them.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from spatialavatar.avatar import default_head
from spatialavatar.evaluation.evaluator import as_pixels
from spatialavatar.evaluation.metrics import csim
from spatialavatar.files import write_text
from spatialavatar.generator.config import BaseConfig
from spatialavatar.generator.network import CorrectionNetwork, NetworkConfig, NetworkInputs, UVFeature
from spatialavatar.generator.network import model as network_model
from spatialavatar.generator.network.heads import FRONTAL, expression_code, harmonic_encoding
from spatialavatar.head import HeadModel, UVLayout, build_layout
from spatialavatar.metrics import psnr, shared_lpips
from spatialavatar.provenance import save_png
from spatialavatar.tracking.identity import IdentityEmbedder
from spatialavatar.training import LossWeights, Phase, launcher
from spatialavatar.training.config import TrainingConfig
from spatialavatar.training.examples import Example, ExampleConfig, Examples, Target
from spatialavatar.training.shards import People, Person, View
from spatialavatar.training.step import corrected, encoded, encoded_view, rendered

WEIGHTS = LossWeights(lpips=600.0, ms_ssim=30.0)  # as configs/open.toml
PHASE_1 = replace(
    Phase.monocular(), batch=2, rate=8e-4, schedule="cosine", warm_up=15, regularised=0.25, weights=WEIGHTS
)
PHASE_2 = replace(
    Phase.multi_view(),
    batch=2,
    rate=2e-4,
    warm_up=4,
    precision="fp32",
    regularised=0.25,
    weights=replace(WEIGHTS, residual=1e-2),
)

# Places in a rig as the shards have it: the frontal camera first, then the others from left to right.
FRONT, SOURCE_INSTANT = 0, -1  # the last instant, a face nearly at rest
SOURCES = {1: (0,), 3: (0, 1, 2)}  # cameras, by K
NEW_CAMERAS = (3, 4)  # from above, and from 40 degrees aside
EXPRESSIONS = 3  # the first so many instants change the expression; the others turn the head


class OtherWeights(CorrectionNetwork):
    """Starts from other random weights: measures chance."""

    def __init__(self, config: NetworkConfig, head: HeadModel, layout: UVLayout) -> None:
        torch.manual_seed(1)
        super().__init__(config, head, layout)


class WithoutResidual(CorrectionNetwork):
    """The residual head stays at zero."""

    def __init__(self, config: NetworkConfig, head: HeadModel, layout: UVLayout) -> None:
        super().__init__(config, head, layout)
        self.residual.requires_grad_(False)


class AttentionPool(CorrectionNetwork):
    """Sources are weighted by learned scores times the base's visibility, so that it starts as the mean."""

    def __init__(self, config: NetworkConfig, head: HeadModel, layout: UVLayout) -> None:
        super().__init__(config, head, layout)  # first, so that the other weights start as in the full network
        self.score = _scores(config.dense_channels)
        self.cls_score = _scores(self.encoder.cls_channels)

    def features(self, inputs: NetworkInputs) -> UVFeature:
        """Features as of the full network, with attention in both pools."""
        with patch.multiple(network_model, pool_seen=self._pool_seen, pool_sources=self._pool_sources):
            return super().features(inputs)

    def _pool_seen(self, values: Tensor, weights: Tensor) -> Tensor:
        return _attended(values, self.score(values).squeeze(-1) + weights.clamp_min(1e-6).log())

    def _pool_sources(self, values: Tensor) -> Tensor:
        return _attended(values, self.cls_score(values).squeeze(-1))


def _scores(channels: int) -> nn.Sequential:
    """A score of a vector, initially 0."""
    last = nn.Linear(32, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(channels, 32), nn.SiLU(), last)


def _attended(values: Tensor, scores: Tensor) -> Tensor:
    """Mean over the sources of values (K, ..., C), weighted by the softmax of scores (K, ...)."""
    return (scores.softmax(0)[..., None] * values).sum(0)


@dataclass(frozen=True)
class Variant:
    """Difference to the full network and its training.

    Attributes:
        name: label of its row.
        network: class of the network.
        change: changes the configuration.
        second: whether it is of phase 2, which starts from the full network of phase 1.
    """

    name: str
    network: type[CorrectionNetwork] = CorrectionNetwork
    change: Callable[[TrainingConfig], TrainingConfig] = lambda config: config
    second: bool = False


def _phase(**changes: Any) -> Callable[[TrainingConfig], TrainingConfig]:
    return lambda config: replace(config, phase=replace(config.phase, **changes))


VARIANTS = (
    Variant("full"),
    Variant("full, other first weights", OtherWeights),
    Variant("no residual head", WithoutResidual),
    Variant("no Jacobian penalty", change=_phase(weights=replace(WEIGHTS, jacobian=0.0))),
    Variant("attention pool", AttentionPool),
    Variant(
        "visibility_damping 0",
        change=lambda config: replace(config, network=replace(config.network, visibility_damping=0.0)),
    ),
    Variant("phase 2", second=True),
    Variant("phase 2, other draws", change=lambda config: replace(config, seed=1), second=True),
    Variant("phase 2, no L2-SP", change=_phase(anchor=0.0), second=True),
    Variant("phase 2, no cross-time", change=_phase(cross_camera=1.0), second=True),
)


@dataclass(frozen=True)
class Setting:
    """Settings that all variants share.

    Attributes:
        rigs: folder of shards of kind "cameras".
        photos: folder of shards of kind "photos".
        out: gets a folder for each variant, and the bases.
        held_out: patterns of names.
        steps: of phase 1.
        second_steps: of phase 2.
        size: pixels a side of training renders.
        eval_size: pixels a side of evaluated renders.
        resolution: texels a side of the UV layout: a quarter of the Gaussians that ship make a step twice as fast.
        network: sizes.
        base: constants of the base.
    """

    rigs: Path
    photos: Path
    out: Path
    held_out: tuple[str, ...]
    steps: int = 100
    second_steps: int = 30
    size: int = 256
    eval_size: int = 256
    resolution: int = 128
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(image_size=256))
    base: BaseConfig = field(default_factory=BaseConfig)

    def folder(self, variant: Variant) -> Path:
        """The path of a variant's run."""
        return self.out / variant.name.replace(",", "").replace(" ", "-")

    def config(self, variant: Variant) -> TrainingConfig:
        """The path of a variant's run."""
        first, second = replace(PHASE_1, iterations=self.steps), replace(PHASE_2, iterations=self.second_steps)
        config = TrainingConfig(
            out=str(self.folder(variant)),
            shards=(str(self.rigs),) if variant.second else (str(self.rigs), str(self.photos)),
            phase=second if variant.second else first,
            network=self.network,
            start=str(self.folder(VARIANTS[0]) / "model" / "network.safetensors") if variant.second else "",
            held_out=self.held_out,
            size=self.size,
            tint=0.3,
            resolution=self.resolution,
            base=self.base,
            cache=str(self.out / "bases"),
            ema=0.98,
            save_every=20,
            eval_every=0,
        )
        return variant.change(config)


def train(variant: Variant, setting: Setting) -> CorrectionNetwork:
    """Train a variant, or continue its training, and return its averaged network."""
    config = setting.config(variant)
    with patch.object(launcher, "CorrectionNetwork", variant.network):
        launcher.train(config, lambda _, message: print(f"{variant.name}: {message}", flush=True))
    head = default_head()
    network = variant.network(config.network, head, build_layout(head, config.resolution))
    kept = torch.load(Path(config.out) / launcher.CHECKPOINT, weights_only=True)["average"]
    network.load_state_dict(
        {name.removeprefix("module."): value for name, value in kept.items() if name.startswith("module.")}
    )
    return network.eval()


class Evaluator:
    """Evaluates networks on the same held-out people."""

    def __init__(self, setting: Setting) -> None:
        """Read the held-out people; bases are made at their first use."""
        self.head = default_head()
        self.layout = build_layout(self.head, setting.resolution)
        self._setting, self._embedder = setting, IdentityEmbedder()
        self._of = {folder: self._prepared(folder) for folder in (setting.rigs, setting.photos)}

    def _prepared(self, folder: Path) -> tuple[list[Person], Examples]:
        people = People([folder], self.head.id)
        config = self._setting.config(VARIANTS[0])
        held_out = launcher.split_people(people.people, self._setting.held_out)[1]
        examples = Examples(
            people,
            held_out,
            config.phase,
            self.head,
            self.layout,
            ExampleConfig(
                size=self._setting.eval_size,
                image_size=config.network.image_size,
                base=config.base,
                cache=Path(config.cache),
            ),
        )
        return sorted(held_out, key=lambda person: person.name), examples

    @torch.no_grad()
    def __call__(self, network: CorrectionNetwork | None, sheet: Path | None = None) -> dict[str, dict[str, float]]:
        """Scores of each person by name.

        Args:
            network: None for the base.
            sheet: PNG to write: of each rig the source and, K = 1, target and render of every evaluated view.
        """
        found: dict[str, dict[str, float]] = {}
        rows = []
        people, examples = self._of[self._setting.rigs]
        for person in people:
            figures = found.setdefault(person.name, {})
            instants = person.frames[FRONT]
            source_instant = instants + SOURCE_INSTANT
            cameras = [View(camera, source_instant) for camera in NEW_CAMERAS]
            others = [View(FRONT, instant) for instant in range(source_instant)]
            for count, sources in SOURCES.items():
                views = [View(camera, source_instant) for camera in sources]
                example = examples.example(person, views, [*cameras, *others], None)
                scores, shown = self._scores(network, example)
                figures |= _means(f"camera {count}", scores[: len(cameras)], ("psnr", "lpips"))
                figures |= _means(f"instant {count}", scores[len(cameras) :], ("psnr", "lpips"))
                figures |= _means(f"expression {count}", scores[len(cameras) :][:EXPRESSIONS], ("csim",))
                if network is not None:
                    figures |= _means(
                        f"at view {count}", self._scores_at_view(network, example, len(cameras)), ("psnr",)
                    )
                    figures |= view_changes(network, example, f" {count}")
                if count == 1:
                    rows.append(torch.cat(shown, 1))
        people, examples = self._of[self._setting.photos]
        for person in people:
            pairs = [((source,), target) for source in person.views for target in person.views if source != target]
            scores = []
            for sources, target in pairs:
                scores += self._scores(network, examples.example(person, sources, [target], None))[0]
            found.setdefault(person.name, {}).update(_means("photo", scores, ("psnr", "lpips", "csim")))
        if sheet is not None:
            save_png(sheet, as_pixels(torch.cat(rows)))
        return found

    def _scores(
        self, network: CorrectionNetwork | None, example: Example
    ) -> tuple[list[dict[str, float]], list[Tensor]]:
        """Scores of each target, rendered like an avatar: the five heads are evaluated once, for a frontal head."""
        frontal = harmonic_encoding(torch.tensor([FRONTAL]))
        scores, shown = [], []
        for target, image in zip(example.targets, self._images(network, example, lambda _: frontal)):
            scores.append(
                {
                    "psnr": psnr(image, target.image, target.region),
                    "lpips": shared_lpips()(image, target.image),
                    "csim": self._csim(image, target),
                }
            )
            shown += [target.image, image]
        return scores, shown

    def _scores_at_view(self, network: CorrectionNetwork, example: Example, count: int) -> list[dict[str, float]]:
        """Scores of the first targets, with the heads evaluated for each target's own view, as in training."""
        some = example.replace(targets=example.targets[:count])
        images = self._images(network, some, lambda target: encoded_view(target.camera, target.params))
        return [{"psnr": psnr(image, t.image, t.region)} for t, image in zip(some.targets, images)]

    def _images(
        self, network: CorrectionNetwork | None, example: Example, view: Callable[[Target], Tensor]
    ) -> list[Tensor]:
        images = []
        feature = None if network is None else next(iter(encoded(network, [example])))[1]
        for target in example.targets:
            if network is None or feature is None:
                image, alpha = rendered(example, example.base, self.head, self.layout, target.params, target.camera)
            else:
                output = network.decode(feature, view(target), expression_code(target.params))
                _, image, alpha = corrected(example, output, self.head, self.layout, target.params, target.camera)
            images.append(target.shown(image, alpha).clamp(0.0, 1.0))
        return images

    def _csim(self, image: Tensor, target: Target) -> float:
        """Cosine of both faces' embeddings; both are aligned by where the head model has the target's landmarks."""
        vertices = self.head.vertices(target.params)
        points = target.camera.project(self.head.landmarks(vertices, max(self.head.landmark_embeddings)))[0].numpy()
        return csim(*(self._embedder.embed(as_pixels(one), points) for one in (image, target.image)))


def view_changes(network: CorrectionNetwork, example: Example, suffix: str = "") -> dict[str, float]:
    """Change of the five heads' position and log scale with the view, by name.

    ``energy``: the squared Frobenius norms of both Jacobians by the encoded view at the front, exactly: what the
    penalty estimates. ``position`` (triangle units) and ``scale``: root mean square of the change from the front to 40
    degrees aside, over Gaussians and channels.
    """
    feature = next(iter(encoded(network, [example])))[1]
    front = torch.tensor([FRONTAL])
    aside = torch.tensor([[math.sin(math.radians(40.0)), 0.0, -math.cos(math.radians(40.0))]])

    def position_and_scale(view: Tensor) -> tuple[Tensor, Tensor]:
        part = network.decode(feature, view).view_part
        return part.positions, part.scales

    energy = 0.0
    view = harmonic_encoding(front)
    for channel in range(view.shape[-1]):
        along = torch.zeros_like(view)
        along[:, channel] = 1.0
        changes = torch.func.jvp(position_and_scale, (view,), (along,))[1]
        energy += sum(float(change.detach().square().sum()) for change in changes)
    with torch.no_grad():
        moved = [
            (b - a).square().mean().sqrt()
            for a, b in zip(position_and_scale(view), position_and_scale(harmonic_encoding(aside)))
        ]
    return {f"energy{suffix}": energy, f"position{suffix}": float(moved[0]), f"scale{suffix}": float(moved[1])}


def order_of_sources(network: CorrectionNetwork, evaluator: Evaluator, setting: Setting) -> str:
    """Return the change of a held-out person's UV feature under another order of the photos, K = 3."""
    people, examples = evaluator._of[setting.rigs]
    views = [View(camera, people[0].frames[FRONT] + SOURCE_INSTANT) for camera in SOURCES[3]]
    inputs = examples.example(people[0], views, [View(FRONT, 0)], None).inputs
    with torch.no_grad():
        first = network.features(inputs).values
        others = [
            network.features(
                inputs.replace(
                    images=inputs.images[:, order], places=inputs.places[:, order], weights=inputs.weights[:, order]
                )
            ).values
            for order in ([2, 0, 1], [1, 2, 0], [2, 1, 0])
        ]
    changed = max(float((other != first).float().mean()) for other in others)
    most = max(float((other - first).abs().max()) for other in others)
    return "changes no bit" if changed == 0.0 else f"changes {changed:.0%} of the values, by up to {most:.1e}"


def _means(name: str, scores: Sequence[dict[str, float]], keys: Sequence[str]) -> dict[str, float]:
    return {f"{name} {key}": fmean(score[key] for score in scores) for key in keys}


COLUMNS = {
    "camera 1 psnr": "camera, K = 1: PSNR",
    "camera 1 lpips": "LPIPS",
    "camera 3 psnr": "K = 3: PSNR",
    "camera 3 lpips": "LPIPS",
    "instant 1 psnr": "instant, K = 1: PSNR",
    "instant 1 lpips": "LPIPS",
    "instant 3 psnr": "K = 3: PSNR",
    "instant 3 lpips": "LPIPS",
    "expression 1 csim": "CSIM, K = 1",
    "photo psnr": "photos: PSNR",
    "photo lpips": "LPIPS",
    "photo csim": "CSIM",
}
DIGITS = {"psnr": 2, "lpips": 4, "csim": 4}


def table(scores: dict[str, dict[str, dict[str, float]]]) -> str:
    """Means over people, differences to the reference variant, and the change of the heads with the view.

    A difference has its standard error over the people beside it.
    """
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---:|" * len(COLUMNS)]
    for name, people in scores.items():
        cells = [f"{fmean(p[key] for p in people.values()):.{_digits(key)}f}" for key in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "Differences:", "", *lines[:2]]
    for name, people in scores.items():
        against = "full" if not name.startswith("phase 2,") else "phase 2"
        if name not in ("base", against) and against in scores:
            cells = [_difference([people[p][key] - scores[against][p][key] for p in people], key) for key in COLUMNS]
            lines.append(f"| {name} - {against} | " + " | ".join(cells) + " |")
    keys = ("energy 1", "position 1", "scale 1", "camera 1 psnr", "at view 1 psnr")
    lines += ["", "| | energy | position, triangle units | log scale | PSNR, heads at the front | heads at the view |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for name, people in scores.items():
        if name != "base":
            values = [fmean(p[key] for p in people.values()) for key in keys]
            cells = [f"{values[0]:.3g}", f"{values[1]:.4f}", f"{values[2]:.4f}", f"{values[3]:.2f}", f"{values[4]:.2f}"]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _digits(key: str) -> int:
    return DIGITS[key.rpartition(" ")[2]]


def _difference(values: Sequence[float], key: str) -> str:
    spread = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{fmean(values):+.{_digits(key)}f} ± {spread:.{_digits(key)}f}"


def run(setting: Setting, variants: Sequence[Variant]) -> str:
    """Train and evaluate the missing variants; return the table of all results."""
    evaluator = Evaluator(setting)
    for variant in (None, *variants):
        folder = setting.out / "base" if variant is None else setting.folder(variant)
        if not (folder / "scores.json").is_file():
            network = None if variant is None else train(variant, setting)
            folder.mkdir(parents=True, exist_ok=True)
            found = evaluator(network, folder / "sheet.png")
            order = "" if network is None else order_of_sources(network, evaluator, setting)
            write_text(folder / "scores.json", json.dumps({"people": found, "order": order}, indent=1))
    results = {}
    for name, folder in [("base", setting.out / "base"), *((v.name, setting.folder(v)) for v in VARIANTS)]:
        if (folder / "scores.json").is_file():
            results[name] = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    orders = [f"* {name}: another order of three sources {r['order']}" for name, r in results.items() if r["order"]]
    return table({name: result["people"] for name, result in results.items()}) + "\n\n" + "\n".join(orders)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rigs", type=Path, help="shards of rigs with five cameras or more")
    parser.add_argument("photos", type=Path, help="shards of photos, two or more a person")
    parser.add_argument("--held-out", nargs="+", required=True, help="patterns of names, of rigs and photos alike")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an existing run continues")
    parser.add_argument("--steps", type=int, default=Setting.steps, help="of phase 1, default: %(default)s")
    parser.add_argument("--second-steps", type=int, default=Setting.second_steps, help="of phase 2: %(default)s")
    parser.add_argument("--only", nargs="+", choices=[v.name for v in VARIANTS], help="variants; all by default")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    np.seterr(all="ignore")
    setting = Setting(
        options.rigs,
        options.photos,
        options.out,
        tuple(options.held_out),
        steps=options.steps,
        second_steps=options.second_steps,
    )
    print(run(setting, [v for v in VARIANTS if not options.only or v.name in options.only]))


if __name__ == "__main__":
    main()
