"""Which tile is taken: for every kernel, chip, dtype and head width there is one, and it is what the tables say."""

from __future__ import annotations

import itertools

import pytest
import torch

from attnkit.kernels import tiles
from attnkit.kernels.tiles import KERNELS, WIDTHS, Tile, choose

CAPABILITIES = [(7, 5), (8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (12, 0), (99, 0)]
DTYPES = [torch.float16, torch.bfloat16, torch.float32]


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda c: f"{c[0]}.{c[1]}")
def test_every_call_has_a_tile_that_triton_takes(capability: tuple[int, int]) -> None:
    widths = [width for width in WIDTHS if width <= tiles.widest(capability)]
    for kernel, dtype, width, rich in itertools.product(KERNELS, DTYPES, widths, (False, True)):
        tile = choose(kernel, capability, dtype, width, width, rich=rich)
        for size in (tile.q, tile.k):
            assert size >= 16, "a tensor core takes no less"
            assert size & (size - 1) == 0, "Triton's ranges are powers of two"
        assert tile.warps in (1, 2, 4, 8)
        assert tile.stages >= 1


def test_a_tile_says_what_triton_is_told() -> None:
    assert Tile(128, 64, 4, 3).options == {"num_warps": 4, "num_stages": 3}


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_interpreter_has_small_square_tiles(kernel: str) -> None:
    tile = choose(kernel, None, torch.float32, 256, 256)
    assert (tile.q, tile.k) == (16, 16)


def test_a_width_is_padded_and_the_wider_of_two_decides() -> None:
    def forward(d: int, d_v: int) -> Tile:
        return choose("forward", (9, 0), torch.bfloat16, d, d_v)

    assert forward(40, 40) == forward(64, 64)
    assert forward(96, 16) == forward(16, 96) == forward(128, 128) != forward(64, 64)
    assert forward(1, 1) == forward(16, 16)


def test_chips_that_are_not_known_yet_get_tiles_that_fit_any_chip() -> None:
    """Data centre Blackwell has the shared memory of Hopper; of the others 99 KB is what all have."""
    assert tiles.chip_of((10, 0)) == "sm90"
    assert tiles.chip_of((8, 9)) == tiles.chip_of((12, 0)) == tiles.chip_of((99, 0)) == "sm86"


def test_what_no_kernel_can_serve_is_named() -> None:
    with pytest.raises(ValueError, match=r"capability: \(7, 0\) is too old for Triton; .* at least \(7, 5\)"):
        choose("forward", (7, 0), torch.float16, 64, 64)
    with pytest.raises(ValueError, match="head width: 129 is too wide; it should be at most 128"):
        choose("forward", (7, 5), torch.float16, 129, 64)
    with pytest.raises(ValueError, match="head width: 257 is too wide; it should be at most 256"):
        choose("forward", (9, 0), torch.float16, 64, 257)


def test_the_tables_have_every_kernel_and_width_and_nothing_else() -> None:
    for (chip, _), table in tiles.TABLES.items():
        assert tuple(table) == KERNELS
        widths = [width for width in WIDTHS if chip != "sm75" or width <= tiles.widest((7, 5))]
        assert all(len(row) == len(widths) for row in table.values())
    for place, table in tiles.RICH.items():
        assert set(table) <= set(KERNELS)
        assert all(len(row) == len(WIDTHS) for row in table.values())
        assert place in tiles.TABLES
