"""Is a tuned training of a quantized network more accurate than one with the default hyperparameters, by more than seeds
differ, and is 8-bit training as accurate as full precision?

run.py --results FILE [--seeds N] [--rounds N] [--sets digits,shapes] [--methods expert,...]

`haqa compare` on images that none of the rounds saw, at w2a2 each method beside the defaults, at w8a8 and w4a4 the
defaults alone. All begin from the same network in full precision, which `haqa pretrain images` trains first.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HAQA = ROOT / "build/bin/haqa"
WORK = ROOT / "build/bench-images"
SETS = {  # what makes the images; options of the training in full precision; lines of the task
    "digits": ([sys.executable, ROOT / "examples/digits_to_cifar.py"], ["--no-flip", "--epochs", "20"], "flip: false"),
    "shapes": ([HAQA, "data", "make-images", "cifar10", "--train", "1500", "--test", "1000", "--noise", "0.3", "--quiet"],
               ["--epochs", "20"], "flip: true"),
}


def run(*command):
    return subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def prepare(name):
    """The task file, with its images and its network beside it."""
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    make, training, line = SETS[name]
    if not (folder / "images").exists():
        run(*make, folder / "images")
    if not (folder / "resnet20.safetensors").exists():
        run(HAQA, "pretrain", "images", "resnet20", folder / "images", *training, "-o", folder / "resnet20.safetensors")
    task = folder / "task.yaml"
    task.write_text("model: resnet20.safetensors\nfinetune:\n  method: dorefa\n  network: resnet20\n  images: images\n"
                    f"  bit_width: w2a2\n  {line}\nagent:\n  provider: expert\n")
    return task


def compare(task, widths, methods, arguments):
    folder = task.parent / f"{'-'.join(widths)}-{arguments.rounds}"
    return json.loads(run(HAQA, "compare", "--task", task, "--bit-widths", ",".join(widths), "--methods", ",".join(methods),
                          "--seeds", arguments.seeds, "--rounds", arguments.rounds, "--reference", "default", "--output",
                          folder, "--json"))


def accuracies(comparison, method, width):
    """On test images, by seed."""
    rows = [r for r in comparison["held_out"] if r["method"] == method and width in r["held_out"].get("tasks", {})]
    return {str(r["seed"]): r["held_out"]["tasks"][width]["accuracy"] for r in rows}


def spread(values):
    return {"mean": statistics.fmean(values), "deviation": statistics.stdev(values) if len(values) > 1 else 0.0,
            "values": list(values)}


def measure(name, arguments):
    task = prepare(name)
    narrow = compare(task, ["w2a2"], ["default", *arguments.methods], arguments)
    wide = compare(task, ["w8a8", "w4a4"], ["default"], arguments)
    found = {"rounds": {"w2a2": narrow, "w8a8,w4a4": wide}, "accuracy": {}, "gain_at_w2a2": {}}
    default = accuracies(narrow, "default", "w2a2")
    for method in arguments.methods:
        tuned = accuracies(narrow, method, "w2a2")
        found["accuracy"][f"w2a2 {method}"] = spread(list(tuned.values()))
        found["gain_at_w2a2"][method] = spread([tuned[seed] - default[seed] for seed in default])
    found["accuracy"]["w2a2 default"] = spread(list(default.values()))
    for width in ("w8a8", "w4a4"):
        found["accuracy"][f"{width} default"] = spread(list(accuracies(wide, "default", width).values()))
    full = found["accuracy"]["full precision"] = spread(list(accuracies(wide, "full precision", "w8a8").values()))
    found["w8a8_over_full_precision"] = spread([a - full["mean"] for a in accuracies(wide, "default", "w8a8").values()])
    return found


def machine():
    names = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return {"processor": names[0] if names else platform.machine(), "cores": os.cpu_count(), "system": platform.system()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--results", required=True, type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--sets", type=lambda text: text.split(","), default=list(SETS))
    parser.add_argument("--methods", type=lambda text: text.split(","), default=["expert"])
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    begun = WORK / "commit"  # of the trials that are there
    if not begun.exists():
        begun.write_text(run("git", "-C", ROOT, "rev-parse", "HEAD"))
    results = {"commit": begun.read_text().strip(), "machine": machine(), "seeds": arguments.seeds, "rounds": arguments.rounds, "sets": {}}
    for name in arguments.sets:
        found = results["sets"][name] = measure(name, arguments)
        arguments.results.write_text(json.dumps(results, indent=1) + "\n")
        for what, of in found["accuracy"].items():
            print(f"{name} {what:<13}{100 * of['mean']:7.2f} ± {100 * of['deviation']:.2f} %", flush=True)
        for method, gain in found["gain_at_w2a2"].items():
            print(f"{name} w2a2: {method} over default, seed by seed, {100 * gain['mean']:+.2f} ± {100 * gain['deviation']:.2f} points")
        eight = found["w8a8_over_full_precision"]
        print(f"{name}: w8a8 over full precision {100 * eight['mean']:+.2f} ± {100 * eight['deviation']:.2f} points", flush=True)


if __name__ == "__main__":
    main()
