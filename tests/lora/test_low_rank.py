"""Singular values, norms and ranks of products of thin matrices, beside torch's own of the full matrix."""

from __future__ import annotations

import pytest
import torch

from library.lora.files import ModuleWeights
from library.lora.low_rank import choose_rank, from_svd, module_norm, relative_error, svd_of_matrix, svd_of_product, true_rank

VALUES = torch.tensor([8.0, 4.0, 2.0, 1.0, 1.0])  # sum 16, squares 64 + 16 + 4 + 1 + 1 = 86


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("out", "size", "rank"), [(30, 20, 4), (3, 20, 4), (30, 3, 5)])
def test_the_svd_of_a_product_is_that_of_the_full_matrix(out: int, size: int, rank: int) -> None:
    up, down = random(out, rank), random(rank, size, seed=1)
    u, values, vh = svd_of_product(up, down)
    full = torch.linalg.svdvals(up.double() @ down.double())[: len(values)].float()
    torch.testing.assert_close(values, full, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close((u * values) @ vh, up @ down, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (15, 15)])
def test_the_svd_of_a_matrix_gives_it_back(shape: tuple[int, int]) -> None:
    matrix = random(*shape)
    u, values, vh = svd_of_matrix(matrix)
    torch.testing.assert_close((u * values) @ vh, matrix, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(values, torch.linalg.svdvals(matrix), rtol=1e-4, atol=1e-5)


def test_the_error_of_a_cut_is_the_norm_of_what_was_cut_off() -> None:
    module = ModuleWeights(down=random(6, 5, 3, 3), up=random(10, 6, 1, 1, seed=1), alpha=3.0)
    svd = svd_of_product(module.up.flatten(1), module.down.flatten(1))
    for rank in (1, 3, 6):
        cut = from_svd(svd, rank, module.down.shape, scale=0.5)
        assert (cut.down.shape, cut.up.shape, cut.alpha) == ((rank, 5, 3, 3), (10, rank, 1, 1), 0.5 * rank)
        expected = float(svd[1][rank:].norm() / svd[1].norm())
        assert relative_error(cut, module) == pytest.approx(expected, abs=2e-6)


def test_norms_and_small_differences_stay_exact() -> None:
    module = ModuleWeights(down=random(4, 50), up=random(60, 4, seed=1), alpha=2.0)
    full = 0.5 * module.up.double() @ module.down.double()
    assert module_norm(module) == pytest.approx(float(full.norm()), rel=1e-6)
    other = ModuleWeights(down=module.down, up=module.up * (1 + 1e-5), alpha=2.0)
    assert relative_error(other, module) == pytest.approx(1e-5, rel=0.05)  # squares in float32 would see nothing below 3e-4
    assert relative_error(module, module) < 1e-6
    nothing = ModuleWeights(down=torch.zeros(4, 50), up=module.up, alpha=2.0)
    assert relative_error(nothing, nothing) == 0 and relative_error(module, nothing) == float("inf")
    assert relative_error(ModuleWeights(module.down * float("inf"), module.up, 2.0), module) == float("inf")


@pytest.mark.parametrize(
    ("method", "parameter", "limit", "rank"),
    [
        (None, 0, 3, 3),
        (None, 0, 99, 5),
        ("sv_ratio", 3, 99, 2),  # over 8/3: 8 and 4
        ("sv_ratio", 100, 99, 5),
        ("sv_ratio", 100, 4, 4),
        ("sv_cumulative", 0.5, 99, 1),  # 8 of 16
        ("sv_cumulative", 0.51, 99, 2),
        ("sv_cumulative", 0.9, 99, 4),  # 8 + 4 + 2 = 14 of 16 is 0.875
        ("sv_fro", 0.9, 99, 2),  # √(64/86) = 0.863, √(80/86) = 0.964
        ("sv_fro", 0.97, 99, 3),
        ("sv_fro", 1.0, 3, 3),
        ("sv_cumulative", 0.0, 99, 1),
    ],
)
def test_dynamic_methods_keep_as_few_ranks_as_they_allow(method: str | None, parameter: float, limit: int, rank: int) -> None:
    assert choose_rank(VALUES, method, parameter, limit) == rank


def test_an_empty_module_keeps_one_rank() -> None:
    assert choose_rank(torch.zeros(4), "sv_fro", 0.9, 4) == 1 and true_rank(torch.zeros(4)) == 0
    assert true_rank(torch.tensor([1.0, 1e-3, 1e-9])) == 2
