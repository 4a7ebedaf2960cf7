#!/usr/bin/env python3
"""Checks the problems and the table on answers that come from elsewhere."""
import math
import unittest

import numpy

import run
import table
from problems import Result, all_problems, branin, dice_of, hartmann6, parameters_of, unit_of, value_at


def any_configuration(problem, random):
    """Some configuration that keeps conditions and constraints."""
    conditions = {n: p["when"] for n, p in parameters_of(problem.space).items() if "when" in p}
    while True:
        c = {}
        for name, p in parameters_of(problem.space).items():
            if name not in conditions or run.holds(conditions[name], c):
                c[name] = value_at(p, random.random())
        if all(run.holds(rule, c) for rule in problem.space.get("constraints", [])):
            return c


def default_of(problem):
    c = {}
    for name, p in parameters_of(problem.space).items():
        if "when" not in p or run.holds(p["when"], c):
            c[name] = p["default"]
    return c


def faults(problem, c):
    """What is wrong with a configuration."""
    found, parameters = [], parameters_of(problem.space)
    active = [n for n, p in parameters.items() if "when" not in p or run.holds(p["when"], c)]
    found += [f"{n} is missing or not active" for n in set(active) ^ set(c)]
    for name in set(active) & set(c):
        p, value = parameters[name], c[name]
        if p["type"] == "bool":
            valid = isinstance(value, bool)
        elif p["type"] == "categorical":
            valid = value in p["choices"]
        else:
            valid = p["low"] <= value <= p["high"] and (p["type"] == "float" or value == int(value))
        if not valid:
            found.append(f"{name} is {value}")
    return found + [rule for rule in problem.space.get("constraints", []) if not run.holds(rule, c)]


class Functions(unittest.TestCase):
    def test_branin_has_its_three_optima(self):  # Surjanovic and Bingham's library of test functions
        for x, y in ((-math.pi, 12.275), (math.pi, 2.275), (9.42478, 2.475)):
            self.assertAlmostEqual(branin(x, y), 0.397887, places=5)

    def test_hartmann6_has_its_optimum(self):  # the same
        x = [0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573]
        self.assertAlmostEqual(hartmann6(x), -3.32237, places=4)


class Problems(unittest.TestCase):
    def test_no_configuration_beats_the_known_optimum(self):
        random = numpy.random.default_rng(1)
        for p in all_problems().values():
            if not p.optimum or p.name == "hartmann6-noisy":
                continue
            for instance in (1, 2):
                best = p.optimum(instance)
                for i in range(200):
                    truth = p.evaluate(any_configuration(p, random), instance, dice_of(p.name, instance, i)).truth
                    if truth is not None:
                        worse = best - truth if p.direction == "maximize" else truth - best
                        self.assertGreaterEqual(worse, -1e-9, p.name)

    def test_the_default_runs_and_is_not_the_optimum(self):
        for p in all_problems().values():
            result = p.evaluate(default_of(p), 1, dice_of(p.name, 1, 0))
            self.assertIsNotNone(result.value, p.name)
            if p.optimum:
                self.assertGreater(abs(result.truth - p.optimum(1)), 1e-6, p.name)

    def test_the_same_dice_give_the_same_value(self):
        random = numpy.random.default_rng(2)
        for p in all_problems().values():
            c = any_configuration(p, random)
            first, second = (p.evaluate(c, 3, dice_of(p.name, 3, 7)) for _ in range(2))
            self.assertEqual(first, second, p.name)

    def test_places_and_values_are_inverse(self):
        p = {"type": "float", "low": 1e-4, "high": 1.0, "log": True}
        for u in (0, 0.3, 1):
            self.assertAlmostEqual(unit_of(p, value_at(p, u)), u)


class Methods(unittest.TestCase):
    def test_every_peer_starts_from_the_defaults_and_stays_valid(self):
        for name in ("conditional6", "mixed7", "cliff5"):
            p = all_problems()[name]
            for method in ("optuna-random", "optuna-mtpe", "optuna-nsgaii", "haqa-random"):
                sampler = run.make_method(method, p, 1, 8)
                for i in range(8):
                    c, _ = sampler.ask()
                    if i == 0:
                        self.assertEqual(c, default_of(p), method)
                    self.assertEqual(faults(p, c), [], f"{method} on {name}: {c}")
                    result = p.evaluate(c, 1, dice_of(name, 1, i))
                    sampler.tell(result)

    def test_a_proposal_that_breaks_a_constraint_costs_no_trial(self):
        p = all_problems()["mixed7"]
        space = {"x": p.space["offset"] | {"default": -0.9}, "constraints": ["x < -0.8"]}
        p = type(p)("narrow", "test", "minimize", space, None)
        sampler = run.make_method("optuna-random", p, 1, 10)
        for _ in range(10):
            c, _ = sampler.ask()
            self.assertLess(c["x"], -0.8)
            sampler.tell(Result(c["x"]))
        self.assertGreater(sampler.rejected, 10)


class Table(unittest.TestCase):
    def test_the_incumbent_is_chosen_by_its_noisy_value_and_judged_by_its_truth(self):
        made = {"method": "m", "problem": "p", "seed": 1, "direction": "minimize", "optimum": 0.0,
                "values": [4.0, None, 1.0, 0.5], "truths": [4.0, None, 1.0, 2.0]}
        table.add_regrets([made])
        self.assertEqual(made["regret"], [1.0, 1.0, 0.25, 0.5])

    def test_holm_is_statsmodels(self):  # multipletests([.01, .04, .03, .005], method="holm")
        for got, want in zip(table.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02]):
            self.assertAlmostEqual(got, want)

    def test_equal_runs_are_no_evidence(self):
        self.assertEqual(table.p_value([(0.5, 0.5)] * 20), 1.0)
        self.assertLess(table.p_value([(0.1 + 0.01 * i, 0.5 + 0.02 * i) for i in range(20)]), 0.001)


if __name__ == "__main__":
    unittest.main()
