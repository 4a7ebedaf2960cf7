"""Draws bench/results/plugin.json as docs/figures/speed.svg: tokens a second of each type of weights, by who runs them.
The form is that of the paper's figure 5. Needs matplotlib.

    python3 bench/plugin/figure.py
"""
import json
import pathlib

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = {"stock": "llama.cpp's defaults", "options": "tuned options", "module": "the module", "options+module": "tuned options and the module"}
COLOURS = {"stock": "#9aa3ad", "options": "#6b9bd1", "module": "#4c9f70", "options+module": "#20603f"}
TITLES = {"tg256": "generating 256 tokens", "tg64@1024": "after 1024 tokens", "tg32@4096": "after 4096 tokens", "pp512": "reading a prompt of 512"}


def main():
    types = json.loads((ROOT / "bench/results/plugin.json").read_text())["types"]
    tests = [t for t in TITLES if any(t in rows for rows in types.values())]
    plt.rcParams.update({"font.size": 9, "svg.hashsalt": "haqa", "font.family": "sans-serif"})
    figure, axes = plt.subplots(1, len(tests), figsize=(3 * len(tests), 2.8), squeeze=False)
    for axis, test in zip(axes[0], tests):
        shown = [t for t in types if test in types[t]]
        who = [w for w in NAMES if any(w in types[t][test] for t in shown)]
        width = 0.8 / len(who)
        for i, name in enumerate(who):
            medians = [types[t][test].get(name, {}).get("median", 0) for t in shown]
            axis.bar([x + (i - (len(who) - 1) / 2) * width for x in range(len(shown))], medians, width, color=COLOURS[name], label=NAMES[name])
        axis.set_xticks(range(len(shown)), shown)
        axis.set_title(TITLES[test], fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("tokens per second")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    (ROOT / "docs/figures").mkdir(exist_ok=True)
    figure.savefig(ROOT / "docs/figures/speed.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
