#!/usr/bin/env python3
"""Runs samplers, ours and Optuna's, on the problems of problems.py, and keeps every run as a line of JSON.

  run.py                                                   everything: 20 seeds, 50 trials
  run.py --problems mlp-digits,fine-tuning --methods haqa-expert,optuna-gp --seeds 5 --trials 25 --results quick.jsonl
  run.py --list

--problems takes names of problems and families, --methods names below or haqa-NAME for any sampler of ours. A results
file that exists is gone on with: what it holds is not run again, but for methods that begin with what --again says.
--label tells versions of a method apart: "haqa-bayesian@wider" with --label @wider. table.py reads one such file or
several.

All methods start from the defaults, meet the same noise, and read the same space. Where they cannot take a thing as we
write it, Optuna's samplers get the kinder form:
- choices that are all numbers, such as 16, 32, 64, are whole numbers of their rank, so that their order is known;
- a proposal that breaks a constraint of the space costs no trial: it is told as failed and asked anew, up to 50 times;
  then a uniformly drawn valid configuration is enqueued, which every sampler learns from;
- a trial that fails at run time is told as pruned, the state from which TPE learns (it ignores failed ones);
- multivariate TPE gets group=True, without which it does not handle conditional parameters.
"""
import argparse
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import platform
import subprocess
import sys
import time
import warnings

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # the processes are as many as the cores

import numpy

import problems as problems_module
from problems import all_problems, dice_of, parameters_of

HERE = pathlib.Path(__file__).parent
HAQA_HPO = pathlib.Path(os.environ.get("HAQA_HPO", HERE.parent.parent / "build" / "bin" / "haqa-hpo"))
DEFAULT_METHODS = ("haqa-random,haqa-local,haqa-bayesian,haqa-expert,"
                   "optuna-random,optuna-tpe,optuna-mtpe,optuna-gp,optuna-cmaes,optuna-nsgaii")


class Haqa:
    """A sampler of ours, in a process of its own for each method."""

    processes = {}

    def __init__(self, name, problem, seed, trials):
        key = (name, os.getpid())
        if key not in self.processes:
            self.processes[key] = subprocess.Popen([HAQA_HPO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process = self.processes[key]
        self.call({"start": {"space": problem.space, "sampler": name, "seed": seed, "direction": problem.direction,
                             "rounds": trials, "name": problem.name, "brief": problem.brief}})

    def call(self, request):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        reply = json.loads(self.process.stdout.readline() or '{"error": "haqa-hpo has ended"}')
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply

    def ask(self):
        reply = self.call({"ask": True})
        return reply["configuration"], reply["seconds"]

    def tell(self, result):
        if result.value is None:
            self.call({"tell": {"failed": result.failed}})
        else:
            self.call({"tell": {"value": result.value}})


class Optuna:
    """One of Optuna's samplers through ask and tell, by define-by-run."""

    reasks = 50

    def __init__(self, name, problem, seed, trials):
        import optuna
        import torch
        torch.set_num_threads(1)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        make = {
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
            "mtpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=3),
            "gp": lambda: optuna.samplers.GPSampler(seed=seed, n_startup_trials=3),
            "cmaes": lambda: optuna.samplers.CmaEsSampler(seed=seed),
            "nsgaii": lambda: optuna.samplers.NSGAIISampler(seed=seed, population_size=5),
        }
        self.optuna, self.seed = optuna, seed
        self.study = optuna.create_study(direction=problem.direction, sampler=make[name]())
        self.parameters = parameters_of(problem.space)
        self.conditions = {n: compile(p["when"], n, "eval") for n, p in self.parameters.items() if "when" in p}
        self.constraints = [compile(c, c, "eval") for c in problem.space.get("constraints", [])]
        self.enqueue({n: p["default"] for n, p in self.parameters.items()})
        self.rejected = 0

    def enqueue(self, configuration):
        self.study.enqueue_trial({n: self.to_optuna(n, v) for n, v in configuration.items()})

    def is_ranked(self, name):
        p = self.parameters[name]
        return p["type"] == "categorical" and all(isinstance(c, (int, float)) for c in p["choices"])

    def to_optuna(self, name, value):
        return sorted(self.parameters[name]["choices"]).index(value) if self.is_ranked(name) else value

    def suggest(self, trial, name):
        p = self.parameters[name]
        if p["type"] == "float":
            return trial.suggest_float(name, p["low"], p["high"], log=p.get("log", False), step=p.get("step") or None)
        if p["type"] == "int":
            return trial.suggest_int(name, p["low"], p["high"], log=p.get("log", False), step=p.get("step") or 1)
        if p["type"] == "bool":
            return trial.suggest_categorical(name, [False, True])
        if self.is_ranked(name):
            return sorted(p["choices"])[trial.suggest_int(name, 0, len(p["choices"]) - 1)]
        return trial.suggest_categorical(name, p["choices"])

    def configuration(self, value_of):
        configuration = {}
        for name in self.parameters:
            if name not in self.conditions or holds(self.conditions[name], configuration):
                configuration[name] = value_of(name)
        return configuration

    def valid(self, configuration):
        return all(holds(c, configuration) for c in self.constraints)

    def ask(self):
        begin = time.perf_counter()
        for attempt in range(self.reasks + 2):
            if attempt == self.reasks:
                self.enqueue(self.random_valid())
            self.trial = self.study.ask()
            configuration = self.configuration(lambda name: self.suggest(self.trial, name))
            if self.valid(configuration):
                return configuration, time.perf_counter() - begin
            self.rejected += 1
            self.study.tell(self.trial, state=self.optuna.trial.TrialState.FAIL)
        raise RuntimeError("no valid configuration")

    def random_valid(self):
        random = numpy.random.default_rng([self.seed, self.rejected])
        while True:
            configuration = self.configuration(
                lambda name: problems_module.value_at(self.parameters[name], random.random()))
            if self.valid(configuration):
                return configuration

    def tell(self, result):
        if result.value is None:
            self.study.tell(self.trial, state=self.optuna.trial.TrialState.PRUNED)
        else:
            self.study.tell(self.trial, result.value)


def holds(expression, configuration):
    try:
        return bool(eval(expression, {"__builtins__": {}, "min": min, "max": max, "abs": abs}, configuration))
    except NameError:
        return True  # a constraint over what is not active


def make_method(method, problem, seed, trials):
    house, _, name = method.partition("@")[0].partition("-")
    return {"haqa": Haqa, "optuna": Optuna}[house](name, problem, seed, trials)


def short(value, digits=6):
    return None if value is None else float(f"{value:.{digits}g}")


def run(task):
    """One study; its line of the results."""
    method, name, seed, trials = task
    problem = all_problems()[name]
    try:
        sampler = make_method(method, problem, seed, trials)
        values, truths, seconds = [], [], []
        begin = time.perf_counter()
        for number in range(trials):
            configuration, took = sampler.ask()
            result = problem.evaluate(configuration, seed, dice_of(name, seed, number))
            sampler.tell(result)
            values.append(short(result.value))
            truths.append(short(result.truth))
            seconds.append(short(took, 3))
        line = {"method": method, "problem": name, "family": problem.family, "direction": problem.direction,
                "seed": seed, "trials": trials, "optimum": short(problem.optimum(seed), 9) if problem.optimum else None,
                "values": values, "ask_s": seconds, "took_s": short(time.perf_counter() - begin, 3)}
        if truths != values:
            line["truths"] = truths
        if getattr(sampler, "rejected", 0):
            line["rejected"] = sampler.rejected
        return line
    except Exception as e:  # the other runs go on
        Haqa.processes.clear()
        return {"error": f"{method} on {name}, seed {seed}: {type(e).__name__}: {e}"}


def finished(results, again):
    """Runs that the file holds. Runs of methods that begin with `again` are taken out, and an unfinished last line."""
    if not results.exists():
        return set()
    text = results.read_text()
    lines = [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]
    kept = [l for l in lines if not (again and l.get("method", "").startswith(again))]
    if len(kept) < len(lines) or not text.endswith("\n"):
        results.write_text("".join(json.dumps(l) + "\n" for l in kept))
    return {(l["method"], l["problem"], l["seed"], l["trials"]) for l in kept if "method" in l}


def machine():
    """What the runs were made with, for the table's reader."""
    cpu = [l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")]
    packages = ("optuna", "torch", "cmaes", "numpy", "scipy", "scikit-learn")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    return {"machine": cpu[0] if cpu else platform.machine(), "cores": os.cpu_count(), "system": platform.system(),
            "python": platform.python_version(), "haqa": commit.stdout.strip(),
            **{p: importlib.metadata.version(p) for p in packages}}


def chosen_problems(names):
    every = all_problems()
    if not names:
        return list(every)
    chosen = []
    for name in names.split(","):
        some = [p.name for p in every.values() if name in (p.name, p.family) or p.family.startswith(name + ",")]
        if not some:
            sys.exit(f"run.py: {name} is no problem and no family; see run.py --list")
        chosen += [n for n in some if n not in chosen]
    return chosen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", default="", help="names of problems or families; all without")
    parser.add_argument("--methods", default=DEFAULT_METHODS)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=pathlib.Path, default=HERE.parent / "results" / "hpo.jsonl")
    parser.add_argument("--again", default="", help="methods that begin so are run again")
    parser.add_argument("--label", default="", help="@TEXT that is added to the methods' names")
    parser.add_argument("--list", action="store_true", help="show the problems and end")
    options = parser.parse_args()
    if options.list:
        for p in all_problems().values():
            print(f"{p.name:24} {p.family:26} {len(parameters_of(p.space)):2} parameters")
        return
    done = finished(options.results, options.again)
    # A seed of everything before the next: a run that is cut short has whole seeds.
    tasks = [(method + options.label, problem, seed, options.trials)
             for seed in range(options.first_seed, options.first_seed + options.seeds)
             for problem in chosen_problems(options.problems) for method in options.methods.split(",")]
    tasks = [task for task in tasks if task not in done]
    options.results.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool, open(options.results, "a") as file:
        if tasks:
            file.write(json.dumps(machine()) + "\n")
        for count, line in enumerate(pool.imap_unordered(run, tasks), 1):
            if "error" in line:
                failures += 1
                print(f"run.py: {line['error']}", file=sys.stderr)
                continue
            file.write(json.dumps(line) + "\n")
            file.flush()
            if count % 50 == 0 or count == len(tasks):
                print(f"run.py: {count} of {len(tasks)} runs", file=sys.stderr)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
