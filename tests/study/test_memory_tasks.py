"""The tasks for a memory: each answer can be worked out from the inputs before it, by the rule and no other."""

import numpy as np
import pytest

from rwkv_np.study.memory_tasks import parity, permutations, recall


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("rounds", [1, 3])
def test_recall_asks_for_the_last_value_of_every_key(rounds):
    pairs = 5
    inputs, targets, weights = recall(rng(), 20, pairs, rounds)
    assert inputs.shape == (20, 2 * pairs * (rounds + 1) - 1) and weights.sum(1).tolist() == [pairs] * 20
    for row, answers, asked in zip(inputs, targets, weights > 0, strict=True):
        listed = row[:2 * pairs * rounds]
        last_value = dict(zip(listed[::2], listed[1::2], strict=True))          # a later value replaces an earlier one
        assert [last_value[key] for key in row[asked]] == answers[asked].tolist()
        assert set(row[asked]) == set(last_value) and len(last_value) == pairs
        for n in range(rounds):
            assert len(set(listed[2 * pairs * n + 1:2 * pairs * (n + 1):2])) == pairs


def test_keys_and_values_are_drawn_from_tokens_that_do_not_overlap():
    inputs, _, _ = recall(rng(), 200, pairs=3, keys=4, values=6)
    assert set(inputs[:, :6:2].ravel()) == set(range(4)) and set(inputs[:, 1:6:2].ravel()) == set(range(4, 10))


def test_more_pairs_than_keys_or_values_are_refused():
    with pytest.raises(ValueError, match="pairs is 5 but must be from 1 to 4"):
        recall(rng(), 1, pairs=5, keys=8, values=4)


def test_the_targets_of_recall_are_the_next_tokens():
    inputs, targets, _ = recall(rng(), 3, pairs=4)
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])


def test_parity_is_that_of_the_ones_so_far():
    bits, targets, weights = parity(rng(), 4, 30)
    for row, answers in zip(bits, targets, strict=True):
        assert answers.tolist() == [sum(row[:t + 1]) % 2 for t in range(30)]
    assert set(bits.ravel()) == {0, 1} and weights.all()


@pytest.mark.parametrize("things", [3, 4])
def test_products_of_permutations_move_things_as_one_after_the_other_does(things):
    from itertools import permutations as orders

    group = [np.array(p) for p in orders(range(things))]
    tokens, targets, _ = permutations(rng(), 3, 12, things)
    assert tokens.max() == len(group) - 1
    for row, answers in zip(tokens, targets, strict=True):
        moved = np.arange(things)
        for token, answer in zip(row, answers, strict=True):
            moved = moved[group[token]]
            np.testing.assert_array_equal(moved, group[answer])
