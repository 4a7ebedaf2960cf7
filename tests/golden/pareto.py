"""Golden fronts and crowding distances for haqa/study/pareto_test.cpp. Ran with pygmo 2.20.0.

Writes tests/golden/pareto.json: random sets of points to be minimized, some of small whole numbers, so that they hold
duplicates and ties, with pagmo's fronts of all points and its crowding distances of the first front. Sets of at most
16 points there: pagmo's sort keeps the order of ties only in such, and the distances depend on it.
"""
import json
import pathlib

import numpy as np
import pygmo

random = np.random.default_rng(1)
cases = []
for goals in (2, 3, 4):
    for count, values in ((2, 3), (5, 3), (12, 4), (16, 3), (16, 0), (40, 5), (60, 0)):
        points = random.integers(0, values, (count, goals)).astype(float) if values else random.random((count, goals)).round(6)
        fronts = [sorted(map(int, front)) for front in pygmo.fast_non_dominated_sorting(points)[0]]
        case = {"points": points.tolist(), "fronts": fronts}
        # pagmo divides by a range of nothing: such fronts, and those of one point, are left out.
        first = points[fronts[0]]
        if len(first) > 1 and (np.ptp(first, axis=0) > 0).all() and (not values or len(first) <= 16):
            case["crowding"] = [d if np.isfinite(d) else "inf" for d in pygmo.crowding_distance(first)]
        cases.append(case)
print(len(cases), "cases,", sum("crowding" in c for c in cases), "with distances; pygmo", pygmo.__version__)
lines = ",\n".join(json.dumps(case) for case in cases)
(pathlib.Path(__file__).parent / "pareto.json").write_text(f'{{"pygmo": "{pygmo.__version__}", "cases": [\n{lines}\n]}}\n')
