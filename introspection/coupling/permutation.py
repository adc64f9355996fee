"""Permutation tests of a matrix's diagonal: would it stand out as far if behaviours were anyone's?"""

import itertools
import math

import numpy as np
from jaxtyping import Float

from introspection.coupling.statistics import CHUNK_SIZE

MOST_ORDERS = 50_000  # how many are enumerated: all of up to 8 models
MOST_MODELS = 6  # that are put in all orders within a group; more in the cyclic ones


def models_permutation_test(
    matrix: Float[np.ndarray, "models models"], rng: np.random.Generator, *, resamples: int = 10_000
) -> float:
    """One-sided p-value of the null that it does not matter whose behaviour is whose.

    Under it every order of the teachers (columns) is as likely, whatever the emitters (rows) are like: the
    p-value is the share of orders whose diagonal sums to at least the actual one (Fisher, 1935). Because the
    whole matrix's sum is fixed, that is also the share in which the diagonal leads by at least as much. It is
    never below 1 / (number of orders). Over 8 models it is (1 + count) / (1 + resamples) of random orders
    (Phipson and Smyth, 2010).
    """
    models = len(matrix)
    exact = math.factorial(models) <= MOST_ORDERS
    if exact:
        orders = np.array([*itertools.permutations(range(models))])
    else:
        orders = rng.permuted(np.tile(np.arange(models), (resamples, 1)), axis=1)
    sums = matrix[np.arange(models), orders].sum(1)
    as_large = int(np.sum(sums >= np.trace(matrix) - 1e-9 * np.abs(matrix).sum()))
    return as_large / len(orders) if exact else (1 + as_large) / (1 + resamples)


def picks_test(
    options: Float[np.ndarray, "groups options"], rng: np.random.Generator, *, resamples: int = 10_000
) -> float:
    """One-sided p-value of the null that each group's first option was picked at random among all of them.

    All picks are enumerated if there are few; otherwise it is (1 + count) / (1 + resamples) of random ones
    (Phipson and Smyth, 2010). It is 1 if no group's options differ.
    """
    differing = options[np.ptp(options, axis=1) > 0]
    if not len(differing):
        return 1.0
    count, actual = differing.shape[1], differing[:, 0].sum()
    least = actual - 1e-9 * np.abs(differing).sum()  # not below it by rounding alone
    if len(differing) * math.log(count) <= math.log(MOST_ORDERS):
        sums = np.zeros(1)
        for row in differing:
            sums = (sums[:, None] + row).ravel()
        return float(np.mean(sums >= least))
    as_large, chunk = 0, max(1, CHUNK_SIZE // len(differing))
    for start in range(0, resamples, chunk):
        picked = rng.integers(count, size=(min(chunk, resamples - start), len(differing)))
        as_large += int(np.sum(differing[np.arange(len(differing)), picked].sum(1) >= least))
    return (1 + as_large) / (1 + resamples)


def groups_permutation_test(
    by_group: Float[np.ndarray, "groups models models"], rng: np.random.Generator
) -> float:
    """One-sided p-value, by `picks_test`, of the null that in each group of items it does not matter whose
    behaviour is whose. It holds for these models only.

    In each group the teachers are put in any order: of up to 6 models in all, of more in the cyclic ones. The
    diagonal's sum is compared with the actual one.
    """
    models = by_group.shape[1]
    places = np.arange(models)
    orders = (
        np.array([*itertools.permutations(places)])
        if models <= MOST_MODELS
        else (places + places[:, None]) % models
    )
    return picks_test(by_group[:, places, orders].sum(2), rng)
