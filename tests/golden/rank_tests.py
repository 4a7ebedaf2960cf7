"""Golden numbers for haqa/base/rank_tests_test.cpp: writes rank_tests.json beside this file.

Ran with SciPy 1.17.1 (rankdata, wilcoxon, friedmanchisquare, by their defaults) and statsmodels 0.15.0 (multipletests).
"""
import json
import pathlib
import warnings

import numpy as np
import scipy
import statsmodels
from scipy import stats
from statsmodels.stats.multitest import multipletests

warnings.simplefilter("ignore")
random = np.random.default_rng(1)


def differences():
    """Sizes around every change of method: exact to 50, permutations to 13, else normal; ties, zeros, both."""
    for n in (1, 2, 3, 5, 6, 8, 10, 12, 13, 14, 20, 25, 49, 50, 51, 80, 200):
        for shift in (0.0, 0.4, -1.5):
            yield random.normal(shift, 1, n)
    for n in (2, 3, 5, 8, 12, 13, 14, 15, 20, 50, 51, 120):
        yield random.integers(1, 4, n) * random.choice([-1, 1], n)  # ties, no zeros
        yield random.integers(-2, 4, n)  # both
        with_zero = random.normal(0.3, 1, n)
        with_zero[0] = 0
        yield with_zero
    yield np.array([0.0, 0.0, 1.0])
    yield np.array([1e300, -1e-300, 5.0, 1e-5])
    yield np.array([np.inf, 1.0, -2.0, 3.0, np.inf])


def wilcoxon_cases():
    for d in differences():
        d = np.asarray(d, dtype=float)
        result = stats.wilcoxon(d)
        yield {"differences": [("inf" if np.isinf(v) else float(v)) for v in d],
               "statistic": float(result.statistic), "p": float(result.pvalue)}


def ranks_cases():
    for values in ([3, 1, 2], [1, 1, 1], [2, 1, 2, 3, 1, 2], [5], list(random.normal(0, 1, 9)),
                   [float(v) for v in random.integers(0, 5, 30)]):
        yield {"values": [float(v) for v in values], "ranks": stats.rankdata(values).tolist()}


def friedman_cases():
    for blocks, methods, tied in ((4, 3, False), (8, 6, False), (20, 7, False), (20, 4, True), (5, 12, True), (3, 3, True)):
        rows = random.integers(0, 4, (blocks, methods)) if tied else random.normal(np.arange(methods) * 0.2, 1, (blocks, methods))
        result = stats.friedmanchisquare(*rows.T)
        yield {"rows": rows.astype(float).tolist(), "statistic": float(result.statistic), "p": float(result.pvalue),
               "mean_ranks": np.mean([stats.rankdata(row) for row in rows], axis=0).tolist()}


def holm_cases():
    for p in ([0.01], [0.01, 0.04, 0.03, 0.005], [0.5, 0.6, 0.9], [0.02, 0.02, 0.02], list(random.uniform(0, 0.2, 12)),
              [1.0, 0.0, 0.001], [0.03, 0.01, 0.03, 0.5, 0.01]):
        yield {"p": p, "holm": multipletests(p, method="holm")[1].tolist()}


golden = {"scipy": scipy.__version__, "statsmodels": statsmodels.__version__, "wilcoxon": list(wilcoxon_cases()),
          "ranks": list(ranks_cases()), "friedman": list(friedman_cases()), "holm": list(holm_cases())}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n")
