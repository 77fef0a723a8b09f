"""Train the speech network on speech of known phoneme times; it resumes where it was stopped.

    python scripts/train_speech.py configs/speech.toml [--steps N] [--out DIR]

It writes ``network.safetensors`` (half precision) for ``weights/speech``; docs/results/speech.md has the whole recipe.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.speech_data.augment import Augmenter, Batch, load_clips
from spatialavatar.files import atomic_output
from spatialavatar.speech.coarticulation import REACH, TABLES, Tables, articulate
from spatialavatar.speech.network import DELAY, DILATIONS, EPSILON, weight_shapes
from spatialavatar.speech.visemes import VISEME_INDEX, VISEMES
from spatialavatar.tensor_files import write_tensors

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

_CLASSES = len(VISEMES)
_RECENT = 12  # batches that are kept for their second use


def initial_weights(seed: int) -> dict[str, Tensor]:
    """Random weights; each block's last layer starts near zero."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in weight_shapes().items():
        if name.endswith("bias"):
            weights[name] = torch.zeros(shape)
            continue
        fan = shape[0] * shape[1] if len(shape) == 3 else shape[0]
        scale = 0.1 if "mix" in name else 1.4
        weights[name] = torch.randn(shape, generator=generator) * scale / fan**0.5
    return {name: weight.requires_grad_() for name, weight in weights.items()}


def forward(weights: dict[str, Tensor], features: Tensor) -> Tensor:
    """What ``SpeechNetwork.push`` computes, for a batch (B, T, 80) from silence: (B, T, 17)."""

    def scaled(x: Tensor) -> Tensor:
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPSILON)

    x = features @ weights["input.weight"] + weights["input.bias"]
    for block, dilation in enumerate(DILATIONS):
        name, count = f"blocks.{block}", x.shape[1]
        padded = torch.nn.functional.pad(scaled(x), (0, 0, 2 * dilation, 0))
        taps = torch.cat([padded[:, tap * dilation : tap * dilation + count] for tap in range(3)], -1)
        hidden = taps @ weights[f"{name}.past.weight"].flatten(0, 1) + weights[f"{name}.past.bias"]
        x = x + hidden.relu() @ weights[f"{name}.mix.weight"] + weights[f"{name}.mix.bias"]
    return scaled(x) @ weights["output.weight"] + weights["output.bias"]


def loss_of(out: Tensor, shares: Tensor, voicing: Tensor, loudness: Tensor, settings: dict) -> Tensor:
    """Weighted cross entropy of the visemes, and errors of voicing, loudness and articulators."""
    out = out[:, DELAY:]
    shares, voicing, loudness = (x[:, : out.shape[1]] for x in (shares, voicing, loudness))
    logits, heard_voice, heard_level = out[..., :_CLASSES], out[..., _CLASSES], out[..., _CLASSES + 1]
    class_weights = torch.tensor([settings["weights"].get(name, 1.0) for name in VISEMES])
    visemes = -(shares * class_weights * logits.log_softmax(-1)).sum(-1).mean()
    voice = torch.nn.functional.binary_cross_entropy_with_logits(heard_voice, voicing)
    level = (heard_level - loudness).abs().mean()
    tables = Tables(torch.from_numpy(TABLES.targets), torch.from_numpy(TABLES.dominances))
    got = articulate(logits.softmax(-1), heard_level.clip(0.0, 1.0), tables)
    want = articulate(shares, loudness, tables)
    assert got.shape[1] == out.shape[1] - 2 * REACH
    return visemes + 0.3 * voice + level + settings["curves"] * (got - want).abs().mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    settings = tomllib.loads(options.config.read_text("utf-8"))
    settings |= {name: getattr(options, name) for name in ("steps", "out", "data") if getattr(options, name)}
    out, steps = Path(settings["out"]), settings["steps"]
    out.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list] = {}
    for path in sorted(Path(settings["data"]).glob("*_train.npz")):
        program, language, _ = path.stem.split("_")
        groups.setdefault(f"{program.rstrip('0123456789')} {language}", []).extend(load_clips(path))
    rng = np.random.default_rng(settings["seed"])
    programs = [name.split()[0] for name in groups]
    odds = [settings["shares"].get(program, 1.0) / programs.count(program) for program in programs]
    augmenter = Augmenter(list(groups.values()), rng, settings["seconds"], odds)
    weights = initial_weights(settings["seed"])
    average = {name: weight.detach().clone() for name, weight in weights.items()}
    optimiser = torch.optim.AdamW(weights.values(), lr=settings["rate"], weight_decay=1e-4, betas=(0.9, 0.98))
    state_path, first = out / "state.pt", 0
    if state_path.exists():
        state = torch.load(state_path, weights_only=False)
        first, average = state["step"], state["average"]
        for name, weight in weights.items():
            weight.data.copy_(state["weights"][name])
        optimiser.load_state_dict(state["optimiser"])
        rng.bit_generator.state = state["rng"]
    recent: deque[Batch] = deque(maxlen=_RECENT)
    started, mean = time.time(), 0.0
    for step in range(first, steps):
        # Making a batch costs more than a step: each is used twice, with others between.
        if len(recent) < _RECENT or step % 2 == 0:
            recent.append(augmenter.batch(settings["batch"]))
            batch = recent[-1]
        else:
            batch = recent[0]
        features, shares, voicing, loudness = map(torch.from_numpy, vars(batch).values())
        loss = loss_of(forward(weights, features), shares, voicing, loudness, settings)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = settings["rate"] * min(1.0, (step + 1) / 50, (steps - step) / (0.3 * steps))
        optimiser.step()
        keep = min(settings["ema"], (1 + step) / (10 + step))
        for name, weight in weights.items():
            average[name].lerp_(weight.detach(), 1 - keep)
        mean = loss.item() if step == first else 0.98 * mean + 0.02 * loss.item()
        if step % 10 == 9:
            print(f"step {step + 1} of {steps}: loss {mean:.3f}, {time.time() - started:.0f} s", flush=True)
        if step % settings["save_every"] == settings["save_every"] - 1 or step == steps - 1:
            state = {"step": step + 1, "average": average, "optimiser": optimiser.state_dict()}
            state |= {"weights": weights, "rng": rng.bit_generator.state}
            with atomic_output(state_path) as temporary:
                torch.save(state, temporary)
            write_network(out / "network.safetensors", average, step + 1, settings["closure_bias"])
    write_network(out / "network.safetensors", average, max(first, steps), settings["closure_bias"])


def write_network(path: Path, average: dict[str, Tensor], steps: int, closure_bias: float) -> None:
    """Store the averaged weights in half precision; lips that close too often look better than lips that stay open."""
    bias = average["output.bias"].clone()
    bias[VISEME_INDEX["PP"]] += closure_bias
    halves = {name: weight.half() for name, weight in (average | {"output.bias": bias}).items()}
    write_tensors(path, halves, {"format": "spatialavatar-speech", "version": 1, "steps": steps})


if __name__ == "__main__":
    main()
