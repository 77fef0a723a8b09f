"""Stage 1's losses against closed forms, its samplers and its optimiser's settings."""

from __future__ import annotations

import pytest
import torch

from spatialavatar.errors import InputError
from spatialavatar.generator.network import apply_corrections
from spatialavatar.head import to_world
from spatialavatar.metrics import Lpips
from spatialavatar.records import Camera, Gaussians
from spatialavatar.render import render
from spatialavatar.training import (
    Anchor,
    LossInputs,
    LossWeights,
    Phase,
    SourceSampler,
    draw_views,
    parameter_groups,
    temperature,
    training_terms,
    weighted_sum,
)
from spatialavatar.training.losses import (
    box_loss,
    jacobian_energy,
    ms_ssim_loss,
    neighbour_pairs,
    residual_loss,
    total_variation,
    view_invariance_loss,
)
from spatialavatar.training.sampling import draw_count

from .support.small_network import ball, code, inputs, shaken, tiny, view


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_ms_ssim_of_flat_pictures_is_their_luminance_term():
    first, second = torch.full((1, 40, 48, 3), 0.3), torch.full((1, 40, 48, 3), 0.6)
    expected = 1 - (2 * 0.3 * 0.6 + 1e-4) / (0.3**2 + 0.6**2 + 1e-4)
    assert float(ms_ssim_loss(first, second)) == pytest.approx(expected, abs=2e-3)
    noise = torch.rand(1, 40, 48, 3, generator=seeded())
    assert float(ms_ssim_loss(noise, noise)) == pytest.approx(0.0, abs=1e-5)
    assert float(ms_ssim_loss(noise, noise.flip(1))) > 0.5


def test_the_box_loss_counts_the_grown_box_only():
    target = torch.zeros(1, 100, 100, 3)
    rendered = target.clone()
    rendered[:, 30:70, 34:67] = 1.0
    box = torch.tensor([[40.0, 40.0, 60.0, 60.0]])  # grown: 33.5 to 66.5, so that pixels 33 to 66 are inside
    assert float(box_loss(rendered, target, box)) == pytest.approx(33 * 34 / 34**2)
    assert float(box_loss(rendered, target, box + 500.0)) == 0.0


def test_total_variation_of_a_ramp_is_its_slope():
    layout = ball()[1]
    pairs = neighbour_pairs(layout)
    row, column = layout.texels // layout.resolution, layout.texels % layout.resolution
    ramp = (3.0 * column - 2.0 * row).float()[None, :, None]
    beside = int((row[pairs[0]] == row[pairs[1]]).sum())
    expected = (3.0 * beside + 2.0 * (pairs.shape[1] - beside)) / len(layout)
    assert float(total_variation(ramp, pairs)) == pytest.approx(expected, rel=1e-5)
    assert float(total_variation(torch.ones(2, len(layout), 3), pairs)) == 0.0


def test_the_penalty_estimates_the_exact_jacobian():
    weights = torch.randn(20, 3, 27, generator=seeded())

    def function(gamma: torch.Tensor) -> torch.Tensor:
        return torch.sin(torch.einsum("pcg,g->pc", weights, gamma))

    gamma = torch.randn(27, generator=seeded(1))
    exact = float(torch.autograd.functional.jacobian(function, gamma).square().sum())
    batch = gamma.expand(1500, 27).clone().requires_grad_()
    values = torch.sin(torch.einsum("pcg,bg->bpc", weights, batch))
    energies = jacobian_energy(values, batch, seeded(2)).detach()
    error = float(energies.std()) / len(energies) ** 0.5
    assert float(energies.mean()) == pytest.approx(exact, abs=4 * error)
    assert error < 0.02 * exact


def test_the_penalty_of_a_linear_map_is_known_for_its_signs():
    gamma = torch.ones(1, 27, requires_grad=True)
    # One output only: whatever its sign, the squared norm of the gradient is that of the row.
    row = torch.arange(27.0)
    energy = jacobian_energy((gamma @ row)[:, None, None], gamma)
    assert float(energy) == pytest.approx(float(row.square().sum()))


def test_the_penalty_trains_heads_of_position_and_scale_and_nothing_of_the_others():
    network, gamma = shaken(tiny()), view().clone().requires_grad_()
    loss = view_invariance_loss(network(inputs(), gamma, code()), gamma, seeded())
    assert float(loss.detach()) > 0
    loss.backward()
    for name, head in network.heads.heads.items():
        reached = head[0].weight.grad is not None and bool(head[0].weight.grad.abs().max() > 0)
        assert reached == (name in ("positions", "scales")), name
    assert all(p.grad is None for p in network.residual.parameters())


def test_a_view_without_gradient_is_refused():
    with pytest.raises(InputError, match="requires_grad_"):
        view_invariance_loss(tiny()(inputs(), view()), view())


def test_the_residual_loss_is_its_mean_size():
    assert float(residual_loss({"positions": torch.full((1, 2, 3), -2.0), "colors": torch.zeros(1, 2, 3)})) == 1.0


def test_all_eight_terms_of_a_render_reach_every_parameter_and_add_up():
    network, (head, layout) = shaken(tiny()), ball()
    gamma = view().clone().requires_grad_()
    output = network(inputs(), gamma, code())
    count = len(layout)
    quats = torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4)
    start = Gaussians(
        torch.zeros(count, 3),
        quats,
        torch.full((count, 3), 0.1),
        torch.full((count,), 0.9),
        torch.full((count, 3), 0.5),
    )
    local = apply_corrections(start, output.corrections[0])
    params = head.neutral().replace(translation=torch.tensor([[0.0, 0.0, -0.5]]))
    world = to_world(local.replace(colors=local.colors[:, :3]), head, layout, head.vertices(params)[0])
    image, _ = render(world, Camera.frontal(64))
    weights = LossWeights(residual=1e-2)
    loss_inputs = LossInputs(
        rendered=image[None],
        target=torch.rand(1, 64, 64, 3, generator=seeded()),
        boxes=torch.tensor([[20.0, 20.0, 40.0, 40.0]]),
        local_means=local.means[None],
        local_scales=local.scales[None],
        output=output,
        view=gamma,
        pairs=neighbour_pairs(layout),
    )
    terms = training_terms(loss_inputs, weights, Lpips(), seeded())
    assert list(terms) == ["l1", "ms_ssim", "lpips", "box", "position_tv", "scale_tv", "jacobian", "residual"]
    total = weighted_sum(terms, weights)
    by_hand = 100 * sum(float(terms[n]) for n in ("l1", "ms_ssim", "lpips", "box"))
    by_hand += 0.01 * sum(float(terms[n]) for n in ("position_tv", "scale_tv", "residual"))
    by_hand += 0.1 * float(terms["jacobian"])
    assert float(total) == pytest.approx(by_hand, rel=1e-5)
    total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    still = [name for name, p in network.named_parameters() if not p.grad.abs().max() > 0]
    assert still == []


def test_lpips_has_a_finite_gradient_where_features_vanish():
    black = torch.zeros(1, 64, 64, 3, requires_grad=True)
    network = Lpips()
    distance = network.distances(black, torch.rand(1, 64, 64, 3, generator=seeded()))
    distance.sum().backward()
    assert torch.isfinite(black.grad).all()
    assert float(distance) == pytest.approx(
        network(black[0], torch.rand(1, 64, 64, 3, generator=seeded())[0]), rel=1e-5
    )


def test_the_anchor_is_half_the_squared_distance():
    layer = torch.nn.Linear(3, 2)
    anchor = Anchor(layer)
    assert float(anchor.penalty()) == 0.0
    with torch.no_grad():
        layer.weight += 2.0
    assert float(anchor.penalty()) == pytest.approx(0.5 * 6 * 4.0)


def test_encoder_layers_learn_more_slowly_the_nearer_they_are_to_the_picture():
    network = tiny()
    groups = parameter_groups(network, 1e-4, 0.65)
    assert [group["lr"] for group in groups] == pytest.approx([1e-4 * 0.65**n for n in (5, 4, 3, 2, 1, 0)])
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in network.parameters())
    network.encoder.requires_grad_(False)
    assert len(parameter_groups(network, 1e-4, 0.65)) == 1


def test_the_phases_follow_their_schedules():
    first, second = Phase.monocular(), Phase.multi_view()
    factors = [first.rate_factor(step) for step in (0, 80_000, 160_000, 199_999)]
    assert factors == pytest.approx([1.0, 0.55, 0.1, 0.1])
    factors = [second.rate_factor(step) for step in (0, 499, 500, 10_250, 20_000)]
    assert factors == pytest.approx([1 / 500, 1.0, 1.0, 0.5, 0.0], abs=1e-6)
    assert (first.weights.residual, second.weights.residual) == (0.0, 1e-2)
    assert [temperature(step, 200_000) for step in (0, 25_000, 50_000, 150_000)] == pytest.approx([2.0, 1.25, 0.5, 0.5])


def test_the_first_source_is_the_likelier_the_less_it_is_like_the_target():
    angle = torch.tensor([0.0, 0.1, 0.6, 0.0])
    directions = torch.stack([angle.sin(), torch.zeros(4), -angle.cos()], 1)
    sampler = SourceSampler(directions, torch.tensor([[0.0], [0.0], [0.0], [2.0]]))
    hot, cold = sampler.probabilities(0, 2.0), sampler.probabilities(0, 0.5)
    assert float(hot[0]) == 0.0
    assert hot[1] < hot[2] < hot[3]
    assert cold[3] > hot[3]
    drawn = [sampler.draw(0, 1, 0.5, seed)[0] for seed in [seeded()] for _ in range(2000)]
    shares = torch.bincount(torch.tensor(drawn), minlength=4) / 2000
    torch.testing.assert_close(shares, cold, atol=0.04, rtol=0)


def test_sources_are_different_frames_and_never_the_target():
    sampler, generator = SourceSampler(torch.randn(6, 3), torch.randn(6, 2)), seeded()
    for _ in range(50):
        drawn = sampler.draw(2, 4, 1.0, generator)
        assert len({*drawn, 2}) == 5
    with pytest.raises(InputError, match="leave it out"):
        sampler.draw(2, 6, 1.0, generator)
    assert {draw_count(generator) for _ in range(100)} == {1, 2, 3, 4}


def test_three_quarters_of_the_batches_cross_cameras_and_the_rest_time():
    generator, crossing = seeded(), 0
    for _ in range(400):
        views = draw_views(16, 50, 3, generator)
        assert len({camera for camera, _ in views}) == 4
        instants = len({instant for _, instant in views})
        assert instants in (1, 4)
        crossing += instants == 1
    assert crossing / 400 == pytest.approx(0.75, abs=0.07)
    later = draw_views(16, 50, 1, generator, cross_camera=0.0)
    assert later[0][0] == later[1][0]
    assert later[0][1] != later[1][1]
    with pytest.raises(InputError, match="cameras"):
        draw_views(3, 50, 3, generator)
