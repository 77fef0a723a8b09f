"""The DPT head (Ranftl et al., "Vision transformers for dense prediction", 2021): four maps to one dense map."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class DenseHead(nn.Module):
    """Brings the encoder's maps to strides of 4, 8, 16 and 32 and fuses them from coarse to fine."""

    def __init__(self, widths: Sequence[int], scaling: Sequence[float], channels: int) -> None:
        """Initialise with random weights.

        Args:
            widths: channels of the maps, fine to coarse.
            scaling: factor of each map's size; 0.5 halves it.
            channels: of the output.
        """
        super().__init__()
        self.reassemble = nn.ModuleList(_reassemble(w, channels, s) for w, s in zip(widths, scaling))
        self.lateral = nn.ModuleList(_Residual(channels) for _ in widths[:-1])
        self.fuse = nn.ModuleList(_Residual(channels) for _ in widths)
        self.out = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, width, h, w) to features (B, channels, h, w) at the first one's scale."""
        levels = [reassemble(m) for reassemble, m in zip(self.reassemble, maps)]
        x = self.fuse[-1](levels[-1])
        for level, lateral, fuse in reversed(list(zip(levels, self.lateral, self.fuse))):
            x = functional.interpolate(x, level.shape[-2:], mode="bilinear", align_corners=False)
            x = fuse(x + lateral(level))
        return self.out(x)


class _Residual(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(functional.silu(self.first(functional.silu(x))))


def _reassemble(width: int, channels: int, scale: float) -> nn.Module:
    """Normalise, project to ``channels``, and resize by a convolution."""
    steps: list[nn.Module] = [nn.GroupNorm(1, width), nn.Conv2d(width, channels, kernel_size=1)]
    if scale > 1:
        steps.append(nn.ConvTranspose2d(channels, channels, kernel_size=int(scale), stride=int(scale)))
    elif scale < 1:
        steps.append(nn.Conv2d(channels, channels, kernel_size=3, stride=round(1 / scale), padding=1))
    return nn.Sequential(*steps)
