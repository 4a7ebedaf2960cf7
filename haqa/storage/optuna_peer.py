"""Optuna's side of optuna_test.cpp: each command takes a storage's URL and a study's name and prints what Optuna sees.

read      the study
write     makes a study with every kind of distribution, trials of every state, and attributes
goes-on   lets Optuna's own TPE add trials to a study of every_kind() (storage_test_support.h)
enqueue   makes a study of every_kind() with two enqueued trials
schema    makes an empty database
analyze   importances, the Pareto front and data frames, as far as they can be computed without plotting
dashboard what optuna-dashboard serves of the first study
two       makes a study with two goals and lets NSGA-II add trials to it; goes on where it is there
"""

import json
import sys
import wsgiref.util

import optuna
from optuna.trial import TrialState

optuna.logging.set_verbosity(optuna.logging.ERROR)


def shown(study):
    """The study as JSON; numbers keep Python's types."""
    return {
        "directions": [d.name for d in study.directions],
        "metric_names": study.metric_names,
        "trials": [
            {
                "number": t.number,
                "state": t.state.name,
                "values": None if t.values is None else [repr(v) for v in t.values],
                "params": t.params,
                "distributions": {name: repr(d) for name, d in t.distributions.items()},
                "intermediate": [[step, repr(v)] for step, v in sorted(t.intermediate_values.items())],
                "user_attrs": {k: v if k.startswith("haqa:") else repr(v) for k, v in t.user_attrs.items()},
                "seconds": t.duration.total_seconds() if t.duration else None,
            }
            for t in study.trials
        ],
        "best": study.best_trial.number
        if len(study.directions) == 1 and any(t.state == TrialState.COMPLETE for t in study.trials)
        else None,
    }


def every_kind(trial):
    rate = trial.suggest_float("learning_rate", 1e-5, 0.1, log=True)
    momentum = trial.suggest_float("momentum", 0, 0.99)
    dropout = trial.suggest_float("dropout", 0, 0.5, step=0.1)
    batch = trial.suggest_int("batch_size", 8, 256, step=8)
    rank = trial.suggest_int("rank", 1, 64, log=True)
    trial.suggest_int("warm_up", -5, 100)
    optimizer = trial.suggest_categorical("optimizer", ["sgd", "adamw", "größer"])
    trial.suggest_categorical("precision", [16, 32.5, "auto", None, True])
    bias = trial.suggest_categorical("bias", [False, True])
    if optimizer == "sgd":
        trial.suggest_categorical("nesterov", [False, True])
    return rate * 100 + momentum - abs(dropout - 0.2) + batch / 256 + rank / 64 + bias


def goes_on(study, trials=15):
    study.sampler = optuna.samplers.TPESampler(seed=1, n_startup_trials=3, multivariate=True, group=True)
    study.optimize(every_kind, n_trials=trials)


def write(study):
    study.set_user_attr("note", "by Python")
    for i in range(6):
        trial = study.ask()
        value = every_kind(trial)
        trial.set_user_attr("haqa:metrics", {"memory_bytes": i})
        trial.set_user_attr("mine", [1, None, {"a": float("nan")}])
        for step in range(3):
            trial.report([0.5, float("nan"), float("-inf"), 1 / 3][(i + step) % 4], step)
        if i == 1:
            study.tell(trial, state=TrialState.PRUNED)
        elif i == 2:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, float("inf") if i == 3 else value)
    study.tell(study.ask(), state=TrialState.PRUNED)  # reported nothing
    study.tell(study.ask(), state=TrialState.FAIL)  # asked for nothing
    every_kind(study.ask())  # still runs
    study.ask().suggest_int("batch_size", 8, 256, step=8)
    trial = study.ask()
    trial.suggest_float("momentum", 0, 5)  # a wider range
    trial.suggest_float("only_python_s", 0, 5)
    study.tell(trial, 0.125)
    study.enqueue_trial({"momentum": 0.25, "batch_size": 16, "optimizer": "sgd"}, user_attrs={"who": "me"})


def two_goals(trial):
    x = trial.suggest_float("x", 0, 5)
    n = trial.suggest_int("n", 0, 3)
    return x * x + n, (x - 2) ** 2


def analyze(study):
    frame = {}
    if len(study.directions) == 1:
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        frame["importances"] = optuna.importance.get_param_importances(study, evaluator=evaluator)
        frame["best_params"] = study.best_params
    else:
        frame["front"] = [t.number for t in study.best_trials]
    return frame


def dashboard(url):
    """The dashboard's own answers, without a port."""
    import optuna_dashboard

    app = optuna_dashboard.wsgi(url)

    def get(path, query=""):
        environ = {"PATH_INFO": path, "QUERY_STRING": query}
        wsgiref.util.setup_testing_defaults(environ)
        return json.loads(b"".join(app(environ, lambda *answer: None)))

    study = get("/api/studies")["study_summaries"][0]["study_id"]
    return get(f"/api/studies/{study}", "after=0")


def main(command, url, name):
    if command == "dashboard":
        return dashboard(url)
    if command == "schema":
        optuna.storages.RDBStorage(url)
        return {"version": optuna.__version__}
    if command in ("write", "enqueue"):
        study = optuna.create_study(storage=url, study_name=name, direction="maximize")
    elif command == "two":
        study = optuna.create_study(storage=url, study_name=name, directions=["minimize", "maximize"], load_if_exists=True)
    else:
        study = optuna.load_study(storage=url, study_name=name)
    if command == "analyze":
        return analyze(study)
    if command == "write":
        write(study)
    elif command == "enqueue":
        study.enqueue_trial({"momentum": 0.25, "batch_size": 16, "optimizer": "sgd"})
        study.enqueue_trial({"learning_rate": 7.5, "rank": 64})  # beyond the space
    elif command == "goes-on":
        goes_on(study)
    elif command == "two":
        study.sampler = optuna.samplers.NSGAIISampler(seed=1, population_size=5)
        study.optimize(two_goals, n_trials=12)
    return shown(study)


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
