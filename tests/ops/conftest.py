"""Parameter settings for which all implementations of the correlation operator must agree."""
import pytest

NAMES = ('kernel_size', 'patch_size', 'stride', 'padding', 'dilation', 'dilation_patch')

# shape, (kernel_size, patch_size, stride, padding, dilation, dilation_patch), why
SETTINGS = [
    ((2, 3, 5, 7), (1, 1, 1, 0, 1, 1), 'plain product'),
    ((1, 2, 6, 5), (1, 2, 1, 0, 1, 1), 'even patch'),
    ((2, 5, 9, 12), (3, (5, 3), 2, (0, 2), 2, (1, 2)), 'rectangles, every parameter'),
    ((2, 5, 9, 12), ((1, 3), 4, (2, 1), 1, 1, 1), 'even patch, unequal stride'),
    ((1, 4, 8, 8), (2, 3, 3, 2, 3, 2), 'even kernel, sparse output'),
    ((1, 2, 4, 5), (1, 3, 1, 5, 1, 1), 'padding wider than the input'),
    ((1, 2, 3, 3), (1, 7, 1, 0, 1, 5), 'shifts that leave the image'),
    ((2, 9, 20, 37), (1, 16, 1, 0, 1, 2), 'tiled: as in CMaskTrack R-CNN'),
    ((1, 70, 21, 40), (1, (5, 17), 1, 0, 1, 1), 'tiled: partial channel block, patch wider than a tile'),
    ((1, 3, 25, 70), (1, (21, 4), 1, 0, 1, (3, 2)), 'tiled: unequal lattices, patch higher than a tile'),
    ((1, 130, 9, 16), (1, (4, 9), 1, 0, 1, (1, 4)), 'tiled: several channel blocks'),
]


@pytest.fixture(params=[pytest.param(s, id=s[2].replace(' ', '-')) for s in SETTINGS])
def setting(request: pytest.FixtureRequest) -> tuple[tuple[int, ...], dict]:
    """Return the shape of the inputs and the operator's parameters by name."""
    shape, parameters, _ = request.param
    return shape, {n: (p, p) if isinstance(p, int) else p for n, p in zip(NAMES, parameters)}
