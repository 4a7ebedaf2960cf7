"""Golden numbers for haqa/study/importance_test.cpp: writes importance.json beside this file.

Ran with Optuna 5.0.0: PedAnovaImportanceEvaluator of studies whose trials Optuna's random sampler drew, with failed and
pruned ones and infinite values among them. "space" is in the form of a space file, "values" are raw divergences.
"""
import json
import logging
import math
import pathlib
import random
import warnings

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(logging.ERROR)


def real(low, high, log=False, step=None):
    return {"type": "float", "low": low, "high": high, **({"log": True} if log else {}), **({"step": step} if step else {})}


def integer(low, high, log=False, step=None):
    return {"type": "int", "low": low, "high": high, **({"log": True} if log else {}), **({"step": step} if step else {})}


def choice(*choices):
    return {"type": "categorical", "choices": list(choices)}


def boolean():
    return {"type": "bool"}


def distribution(p):
    if p["type"] == "float":
        return FloatDistribution(p["low"], p["high"], log=p.get("log", False), step=p.get("step"))
    if p["type"] == "int":
        return IntDistribution(p["low"], p["high"], log=p.get("log", False), step=p.get("step", 1))
    return CategoricalDistribution(p.get("choices", [False, True]))


PLAIN = {"x": real(-5, 5), "y": real(1e-5, 1, log=True), "z": real(0, 2, step=0.25)}
MIXED = {"lr": real(1e-5, 0.2, log=True), "batch": integer(32, 256, log=True), "epochs": integer(8, 12),
         "wide": integer(0, 1000), "steps": integer(200, 1000, step=50), "kind": choice("a", "b", "c", "d"),
         "tile": choice(16, 32, 64), "flag": boolean(), "only": choice("one")}
CONDITIONAL = {"method": choice("sgd", "adam"), "momentum": {**real(0.5, 0.99), "when": 'method == "sgd"'},
               "beta": {**real(1e-4, 0.1, log=True), "when": 'method == "adam"'}, "rank": integer(4, 64)}


def active(name, configuration):
    return {"momentum": configuration.get("method") == "sgd", "beta": configuration.get("method") == "adam"}.get(name, True)


def plain(c):
    return c["x"] ** 2 + 0.3 * abs(math.log10(c["y"]) + 2) + 0.01 * c["z"]


def mixed(c):
    return (abs(math.log10(c["lr"]) + 2) + 0.2 * abs(math.log2(c["batch"] / 64)) + 0.05 * c["epochs"] + c["wide"] / 2000
            + abs(c["steps"] - 600) / 4000 + {"a": 0, "b": 0.6, "c": 0.3, "d": 1.2}[c["kind"]] + c["tile"] / 200 + 0.3 * c["flag"])


def conditional(c):
    return 1 - c["momentum"] if c["method"] == "sgd" else 0.6 + abs(math.log10(c["beta"]) + 2) + c["rank"] / 200


def case(name, space, function, n, direction, quantile, seed, coarse=None):
    chooser = random.Random(seed)
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(seed=seed))
    trials = []
    for number in range(n):
        trial = study.ask()
        configuration = {}
        for parameter, p in space.items():
            if active(parameter, configuration):
                configuration[parameter] = trial._suggest(parameter, distribution(p))
        value = function(configuration) * (1 if direction == "minimize" else -1)
        value = round(value / coarse) * coarse if coarse else value  # many ties at the quantile
        fate = chooser.random()
        if fate < 0.1:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            trials.append({"configuration": configuration, "state": "failed", "value": None})
        elif fate < 0.15:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            trials.append({"configuration": configuration, "state": "pruned", "value": value})
        elif fate < 0.18:
            study.tell(trial, math.inf)
            trials.append({"configuration": configuration, "state": "complete", "value": None})  # JSON has no infinity
        else:
            study.tell(trial, value)
            trials.append({"configuration": configuration, "state": "complete", "value": value})
    values = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile).evaluate(study)
    shares = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile))
    return {"name": name, "space": space, "direction": direction, "quantile": quantile, "trials": trials,
            "values": values, "shares": shares}


golden = {"optuna": optuna.__version__, "cases": [
    case("plain", PLAIN, plain, 100, "minimize", 0.1, 1),
    case("plain, few", PLAIN, plain, 14, "minimize", 0.3, 2),
    case("plain, half", PLAIN, plain, 60, "minimize", 0.5, 3),
    case("plain, maximize", PLAIN, plain, 80, "maximize", 0.1, 4),
    case("plain, ties", PLAIN, plain, 80, "minimize", 0.1, 5, coarse=5.0),
    case("mixed", MIXED, mixed, 200, "minimize", 0.1, 6),
    case("mixed, maximize", MIXED, mixed, 60, "maximize", 0.2, 7),
    case("mixed, few", MIXED, mixed, 20, "minimize", 0.1, 8),
    case("conditional", CONDITIONAL, conditional, 120, "minimize", 0.1, 9),
    case("conditional, few", CONDITIONAL, conditional, 16, "maximize", 0.25, 10),
]}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
