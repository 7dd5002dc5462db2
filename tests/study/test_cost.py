"""The cost of a model: counted as the papers count, and without an array being allocated."""

import tracemalloc

import numpy as np
import pytest
from study.conftest import GENERATIONS, HEADED

from rwkv_np.language_model import LanguageModel
from rwkv_np.study import cost

PAPER = {  # table 2 of the paper on RWKV-4: parameters, forward FLOPs per token
    "169M": (1.693e8, 2.613e8), "430M": (4.304e8, 7.573e8), "1.5B": (1.515e9, 2.823e9),
    "3B": (2.985e9, 5.710e9), "7B": (7.393e9, 1.437e10), "14B": (1.415e10, 2.778e10)}
ABSTRACTS = {  # of the papers on 5, 6 and 7: the smallest and the largest model, in billions of parameters
    5: {"0.4B": 0.46, "7B": 7.5}, 6: {"1.6B": 1.6, "3B": 3.1}, 7: {"0.1B": 0.19, "2.9B": 2.9}}


@pytest.mark.parametrize("name", PAPER)
def test_the_table_of_the_paper_on_rwkv4(name):
    model = cost.model_of_size(4, **cost.SIZES[4][name])
    counted = cost.parameters(model), cost.flops_per_token(model)
    assert tuple(float(f"{n:.3e}") for n in counted) == PAPER[name]


@pytest.mark.parametrize("generation", HEADED)
def test_the_sizes_in_the_abstracts_of_the_papers(generation):
    for name, billions in ABSTRACTS[generation].items():
        count = cost.parameters(cost.model_of_size(generation, **cost.SIZES[generation][name]))
        assert float(f"{count / 1e9:.2g}") == billions


def formula(generation, V, D, L, F, sizes):
    """The number of parameters, written out from the shapes of the equations."""
    match generation:
        case 4:
            layer = 11 * D + 5 * D**2 + 2 * D * F
        case 5:
            layer = 14 * D + 6 * D**2 + 2 * D * F
        case 6:
            layer = 16 * D + 6 * D**2 + 2 * D * F + 10 * sizes["R"] * D + 2 * sizes["W"] * D
        case 7:                                                     # the first layer has no v0, v1, v2
            ranks = [sizes[letter] for letter in "WRPG" if letter in sizes]
            v_rank = ranks[2]
            layer = 19 * D + 4 * D**2 + 2 * D * F + 2 * D * sum(ranks)
            return 2 * V * D + 4 * D + L * layer - D * (1 + 2 * v_rank)
    return 2 * V * D + 4 * D + L * layer


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("V, D, L", [(17, 16, 1), (50, 64, 3)])
def test_parameters_are_the_formula_and_the_arrays_of_a_real_model(generation, V, D, L):
    hollow = cost.model_of_size(generation, V, D, L)
    real = type(hollow).init(V, D, L)
    assert cost.parameters(hollow) == cost.parameters(real) == sum(array.size for array in real.params.values())
    sizes = type(hollow).axis_sizes(V, D)
    assert cost.parameters(hollow) == formula(generation, V, D, L, hollow.d_ffn, sizes)


def test_flops_of_rwkv4_are_the_formula_of_the_paper():
    for V, D, L in ((17, 8, 1), (50, 12, 3)):
        assert cost.flops_per_token(cost.model_of_size(4, V, D, L)) == 2 * (V * D + 13 * D**2 * L)


def test_flops_are_those_of_the_matrix_products_that_a_step_computes(any_model, monkeypatch):
    """Count the products instead of the arrays: every operand of @ in a step is an array that knows it."""
    products = []

    class Counted(np.ndarray):
        def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
            plain = [x.view(np.ndarray) if isinstance(x, Counted) else x for x in inputs]
            if ufunc is np.matmul and isinstance(inputs[1], Counted):
                products.append(2 * inputs[1].size)
            return getattr(ufunc, method)(*plain, **kwargs)

    for name, array in any_model.params.items():
        if array.ndim >= 2 and name != "emb.weight":
            any_model.params[name] = array.view(Counted)
    any_model.step(3)
    recurrence = cost.RECURRENCE_FLOPS[any_model.generation] * any_model.n_layer * np.prod(any_model.memory_shape)
    assert cost.flops_per_token(any_model) == sum(products) + recurrence


class Counter:
    """A number that counts the multiplications and additions it takes part in."""

    count = 0

    def operate(self, other):
        Counter.count += 1
        return self

    __add__ = __radd__ = __mul__ = __rmul__ = operate


@pytest.mark.parametrize("generation", HEADED)
def test_flops_of_the_recurrence_are_those_of_its_equations(generation):
    N = 16
    S, vectors = np.full((N, N), Counter()), np.full((7, N), Counter())
    w, k, v, r, a, b, u = vectors
    Counter.count = 0
    if generation == 7:
        S = S * w + (S @ a)[:, None] * b + v[:, None] * k
        S @ r                                                       # noqa: B018
    else:
        r @ S + (r @ (u * k)) * v                                   # noqa: B018
        S * w[:, None] + k[:, None] * v                             # noqa: B018
    assert abs(Counter.count - cost.RECURRENCE_FLOPS[generation] * N**2) < 6 * N     # besides, what grows with N only


def test_the_state_is_counted_as_it_is_held(any_model):
    assert cost.state_floats(any_model) == sum(array.size for array in any_model.initial_state())
    L, D = any_model.n_layer, any_model.d_model
    N = 4                                                           # heads of 4
    assert cost.state_floats(any_model) == (5 * L * D if any_model.generation == 4 else L * D * (2 + N))
    assert cost.cache_floats_per_token(any_model) == 2 * L * D


def test_a_state_of_rwkv4_is_two_and_a_half_tokens_of_cache():
    assert any("as many as 2.5 tokens" in line for line in cost.describe(cost.model_of_size(4, 50277, 768, 12)))


@pytest.mark.parametrize("generation", GENERATIONS)
def test_counting_allocates_nothing(generation):
    tracemalloc.start()
    for size in cost.SIZES[generation].values():
        assert len(cost.describe(cost.model_of_size(generation, **size))) == 3
    assert tracemalloc.get_traced_memory()[1] < 3e6
    tracemalloc.stop()


def test_options_of_a_generation_are_passed_on():
    assert cost.model_of_size(4, 17, 8, 2, d_ffn=20, d_att=None).d_ffn == 20
    for generation in HEADED:
        model = cost.model_of_size(generation, 17, 16, 2, head_size=4)
        assert model.memory_shape == (4, 4, 4)


def test_sizes_that_are_none_are_an_error_that_names_them():
    with pytest.raises(ValueError, match="generation is 3 but must be one of 4"):
        cost.model_of_size(3, 17, 8, 2)
    for wrong in (0, -1, 2.5, True, "8"):
        with pytest.raises(ValueError, match="d_model is .* but must be an integer of at least 1"):
            cost.model_of_size(4, 17, wrong, 2)
    with pytest.raises(ValueError, match="d_ffn is 0 but"):
        cost.model_of_size(4, 17, 8, 2, d_ffn=0)


def test_every_generation_has_its_named_sizes():
    assert set(cost.SIZES) == set(cost.RECURRENCE_FLOPS) >= set(LanguageModel.classes)
