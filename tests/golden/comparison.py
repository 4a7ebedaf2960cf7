"""Golden numbers for haqa/study/comparison_test.cpp: writes comparison.json beside this file.

Ran with NumPy 2.4.6, SciPy 1.17.1 and statsmodels 0.15.0 on random values; null is a failed trial.
"""
import json
import pathlib

import numpy as np
import scipy
from scipy import stats
from statsmodels.stats.multitest import multipletests

random = np.random.default_rng(4)


def best_so_far(values, maximize):
    best, out = None, []
    for v in values:
        if v is not None and (best is None or (v > best if maximize else v < best)):
            best = v
        out.append(best)
    return out


def case(name, maximize, shifts, seeds, rounds, failing, decimals):
    runs = {m: [[None if random.uniform() < failing else round(float(random.normal(shift, 1)), decimals) for _ in range(rounds)]
                for _ in range(seeds)] for m, shift in shifts.items()}
    curves = {m: [best_so_far(r, maximize) for r in all_runs] for m, all_runs in runs.items()}
    worst = -np.inf if maximize else np.inf
    final = {m: np.array([worst if c[-1] is None else c[-1] for c in cs]) for m, cs in curves.items()}
    table = np.array(list(final.values())).T * (-1 if maximize else 1)
    mean_ranks = np.mean([stats.rankdata(row) for row in table], axis=0)
    expected, others = {}, [m for m in runs if m != "random"]
    for i, m in enumerate(runs):
        at_round = [[c[r] for c in curves[m] if c[r] is not None] for r in range(rounds)]
        values = at_round[-1]
        expected[m] = {"mean": float(np.mean(values)), "deviation": float(np.std(values, ddof=1)),
                       "median": float(np.median(values)), "mean_rank": float(mean_ranks[i]),
                       "failures": sum(v is None for r in runs[m] for v in r),
                       "without_value": sum(c[-1] is None for c in curves[m]),
                       "curve_seeds": [len(v) for v in at_round],
                       "curve_mean": [float(np.mean(v)) if v else None for v in at_round]}
    p = []
    for m in others:
        gain = np.array([0.0 if a == b else a - b for a, b in zip(final[m], final["random"])]) * (1 if maximize else -1)
        p.append(float(stats.wilcoxon(gain).pvalue))
        expected[m].update(wins=int((gain > 0).sum()), ties=int((gain == 0).sum()), losses=int((gain < 0).sum()),
                           gain=float(np.median(gain)), p=p[-1])
    for m, corrected in zip(others, multipletests(p, method="holm")[1]):
        expected[m]["p_holm"] = float(corrected)
    test = stats.friedmanchisquare(*table.T)
    return {"name": name, "direction": "maximize" if maximize else "minimize", "runs": runs, "methods": expected,
            "friedman": [float(test.statistic), float(test.pvalue)]}


golden = {"numpy": np.__version__, "scipy": scipy.__version__, "cases": [
    case("plain", True, {"random": 0, "tpe": 0.5, "gp": 1.2}, 20, 10, 0, 6),
    case("failures", False, {"tpe": 0.5, "random": 0, "gp": -0.3, "local": 0}, 12, 6, 0.3, 3),
    case("ties", True, {"a": 0.5, "random": 0, "b": -0.3, "c": 0, "d": 0.1}, 9, 3, 0.2, 0),
    case("nothing in some seeds", False, {"a": 0.5, "b": 0, "random": 0}, 16, 2, 0.5, 2),
]}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
