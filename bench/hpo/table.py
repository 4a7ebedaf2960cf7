#!/usr/bin/env python3
"""Reads the raw results of run.py and prints, or writes as Markdown, who is better.

  table.py [RESULTS...] [--markdown FILE] [--without optuna-gp] [--method haqa-expert] [--at 10,25,50]

A run is judged after 10, 25 and 50 trials by its incumbent: the trial with the best value so far, and of that trial
what is free of noise or measured on held-out data. Regret: (optimum - that) / (optimum - the default's), so 0 is the
optimum and 1 no better than the default (means count worse ones as 1). Where no optimum is known, the best that any
run found stands for it. Ranks are among the methods on the same problem and seed, equal results share theirs. The test is Wilcoxon's signed-rank test
on the regrets of all pairs of runs (same problem and seed) of a family, two-sided, corrected by Holm over families and
peers: Optuna's samplers, or where none is there all others. A win is a lower regret by more than 1e-6.
"""
import argparse
import collections
import gzip
import json
import pathlib
import statistics

import numpy
import scipy.stats

HERE = pathlib.Path(__file__).parent
TIE = 1e-6


def read(file):
    file = pathlib.Path(file)
    if not file.exists() and pathlib.Path(f"{file}.gz").exists():
        file = pathlib.Path(f"{file}.gz")
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt") as f:
        return [json.loads(line) for line in f]


def incumbent_truths(run):
    """Of each trial on: the truth of the best trial so far; None while all failed."""
    sign = -1 if run["direction"] == "maximize" else 1
    best, curve = None, []
    for value, truth in zip(run["values"], run.get("truths", run["values"])):
        if value is not None and (best is None or sign * value < best[0]):
            best = sign * value, truth
        curve.append(best[1] if best else None)
    return curve


def add_regrets(runs):
    """run["regret"][i]: after trial i."""
    curves = {id(r): incumbent_truths(r) for r in runs}
    truths = collections.defaultdict(list)
    for r in runs:
        truths[r["problem"], r["seed"]] += [t for t in r.get("truths", r["values"]) if t is not None]
    for r in runs:
        seen = truths[r["problem"], r["seed"]]
        best = r["optimum"]
        if best is None:
            best = max(seen) if r["direction"] == "maximize" else min(seen)
        first = curves[id(r)][0]
        if first is None:  # the default failed: the worst that was seen
            first = min(seen) if r["direction"] == "maximize" else max(seen)
        scale = abs(best - first) or 1.0
        sign = -1 if r["direction"] == "maximize" else 1
        r["regret"] = [1.0 if t is None else max(0.0, sign * (t - best)) / scale for t in curves[id(r)]]


class Comparison:
    """Regrets after a number of trials: table[problem, seed][method]. Only what every method has run counts."""

    def __init__(self, runs, methods, at):
        table = collections.defaultdict(dict)
        self.family = {}
        for r in runs:
            if len(r["regret"]) >= at:
                table[r["problem"], r["seed"]][r["method"]] = r["regret"][at - 1]
                self.family[r["problem"]] = r["family"]
        self.methods = methods
        self.table = {k: row for k, row in table.items() if all(m in row for m in methods)}
        self.ranks = {k: dict(zip(methods, scipy.stats.rankdata(numpy.round([row[m] for m in methods], 6))))
                      for k, row in self.table.items()}

    def cells(self, group):
        """The (problem, seed) pairs of a family or a problem; all for None."""
        return [k for k in self.table if group is None or group in (k[0], self.family[k[0]])]

    def families(self):
        return sorted({self.family[p] for p, _ in self.table})

    def problems(self):
        return sorted({p for p, _ in self.table}, key=lambda p: (self.family[p], p))

    def mean_rank(self, method, group):
        return statistics.fmean(self.ranks[k][method] for k in self.cells(group))

    def mean_regret(self, method, group):
        return statistics.fmean(min(self.table[k][method], 1) for k in self.cells(group))

    def rows(self, mean, groups):
        """For each group the mean of each method."""
        return [[mean(m, g) for m in self.methods] for g in groups]

    def pairs(self, method, peer, group):
        return [(self.table[k][method], self.table[k][peer]) for k in self.cells(group)]


def p_value(pairs):
    differences = [a - b if abs(a - b) > TIE else 0.0 for a, b in pairs]
    if not any(differences):
        return 1.0
    return float(scipy.stats.wilcoxon(differences, zero_method="pratt").pvalue)


def holm(p_values):
    order, adjusted, largest = numpy.argsort(p_values), [0.0] * len(p_values), 0.0
    for i, at in enumerate(order):
        largest = max(largest, min(1.0, p_values[at] * (len(p_values) - i)))
        adjusted[at] = largest
    return adjusted


def markdown(header, rows):
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    return lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows] + [""]


def marked(values, digits):
    """The lowest in bold."""
    texts = [f"{v:.{digits}f}" for v in values]
    lowest = min(texts, key=float)
    return [f"**{t}**" if t == lowest else t for t in texts]


def summary(c, mean, digits):
    families = c.rows(mean, c.families())
    rows = [["mean of families"] + marked(numpy.mean(families, axis=0), digits)]
    rows += [["all runs"] + marked(c.rows(mean, [None])[0], digits)]
    rows += [[f] + marked(means, digits) for f, means in zip(c.families(), families)]
    rows += [[f"· {p}"] + marked(means, digits) for p, means in zip(c.problems(), c.rows(mean, c.problems()))]
    return markdown(["family, · problem"] + c.methods, rows)


def ranks_and_regrets(comparisons):
    out = []
    for at, c in comparisons.items():
        out += [f"## After {at} trials", "", f"{len(c.table)} pairs of problem and seed. Mean rank, 1 is best:", ""]
        out += summary(c, c.mean_rank, 2)
        out += ["Mean regret, 0 is the optimum, 1 no better than the default:", ""]
        out += summary(c, c.mean_regret, 3)
    return out


def against_peers(comparisons, method):
    out = []
    for at, c in comparisons.items():
        others = [m for m in c.methods if m != method]
        peers = [m for m in others if m.startswith("optuna")] or others
        keys = [(f, p) for f in c.families() for p in peers]
        adjusted = dict(zip(keys, holm([p_value(c.pairs(method, p, f)) for f, p in keys])))
        rows = []
        for f in c.families():
            row = [f]
            for p in peers:
                pairs = c.pairs(method, p, f)
                wins, losses = sum(b - a > TIE for a, b in pairs), sum(a - b > TIE for a, b in pairs)
                sign = ("**" if wins > losses else "_") if adjusted[f, p] < 0.05 else ""
                row.append(f"{sign}{wins}/{len(pairs) - wins - losses}/{losses}{sign}, {adjusted[f, p]:.2g}")
            rows.append(row)
        out += [f"## {method} against each, after {at} trials", "",
                "Wins/ties/losses, and p; bold: significantly better, underlined: significantly worse (p < 0.05).", ""]
        out += markdown(["family"] + peers, rows)
    return out


def ask_times(runs, methods):
    rows = []
    for m in methods:
        row = [m]
        for low, high in ((2, 10), (41, 50), (191, 200)):
            times = [1e3 * s for r in runs if r["method"] == m for s in r["ask_s"][low - 1:high]]
            row.append(f"{statistics.median(times):.2f}, {max(times):.1f}" if times else "")
        rows.append(row)
    header = ["method", "trials 2 to 10", "trials 41 to 50", "trials 191 to 200"]
    return ["## Time of one ask in ms: median, maximum", ""] + markdown(header, rows)


def made_with(lines):
    """The machines and versions, each once."""
    texts = [", ".join(f"{k} {v}" for k, v in l.items()) for l in lines if "machine" in l]
    return "".join(f"Made with: {t}.\n\n" for t in dict.fromkeys(texts))


def report(runs, method, checkpoints):
    methods = list(dict.fromkeys(r["method"] for r in runs))
    methods.sort(key=lambda m: (m.startswith("optuna"), m))
    judged = [r for r in runs if r["trials"] < 200]  # longer ones are there for their ask times
    add_regrets(judged)
    comparisons = {at: Comparison(judged, methods, at) for at in checkpoints}
    comparisons = {at: c for at, c in comparisons.items() if c.table}
    out = ranks_and_regrets(comparisons)
    if method in methods:
        out += against_peers(comparisons, method)
    return "\n".join(out + ask_times(runs, methods))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="*", default=[HERE.parent / "results" / "hpo.jsonl"])
    parser.add_argument("--method", default="haqa-expert", help="the one that is tested against each other")
    parser.add_argument("--methods", default="", help="those to compare; without: all in the file")
    parser.add_argument("--without", default="", help="those to leave out, such as one that ran on fewer seeds")
    parser.add_argument("--at", default="10,25,50")
    parser.add_argument("--markdown", type=pathlib.Path)
    options = parser.parse_args()
    lines = [line for file in options.results for line in read(file)]
    runs = [line for line in lines if "method" in line]
    if options.methods:
        runs = [r for r in runs if r["method"] in options.methods.split(",")]
    runs = [r for r in runs if r["method"] not in options.without.split(",")]
    text = made_with(lines) + report(runs, options.method, [int(n) for n in options.at.split(",")])
    if options.markdown:
        options.markdown.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
