#!/usr/bin/env python3
"""Writes what the quickstart learns and is asked, about a made-up world: `world.py FOLDER [--seed N]`.

The world: animals with made-up names, each of one of four kinds (which, the seed says), and what the kinds have.

FOLDER/pretrain.jsonl  Sentences and questions to pretrain on. Which kind an animal is, they tell; all other answers are
                       drawn at random: a model learns the words, the forms of the questions and the kinds from them,
                       but not what birds eat.
FOLDER/train.jsonl     The same with the answers of this world, to fine-tune on.
FOLDER/data/arc_easy.jsonl, FOLDER/data/openbookqa.jsonl
                       Questions in the rows of ARC and OpenBookQA. None of them stands in train.jsonl word for word.
"""
import argparse
import json
import pathlib
import random

TASKS = ["arc_easy", "openbookqa"]
KINDS = ["bird", "fish", "bear", "bug"]
ANIMALS = "bo da de di fe ha la li na ne po ra ro sa te vo".split()
# What each kind has, in the order of KINDS; words of one length, so that acc_norm is acc.
TRAITS = {"sound": ["peep", "blub", "roar", "buzz"], "home": ["nest", "pond", "cave", "tree"],
          "food": ["corn", "kelp", "figs", "moss"]}
WHO = "Ann Ben Dan Eve Gus Ida Jack Kim Leo Mia Ned Sue".split()
STORIES = ["{who} sees a {animal}.", "{who} has a {animal}.", "{who} finds a {animal}.", "{who} likes a {animal}.",
           "A {animal} sees {who}.", "A {animal} likes {who}."]


def drawn_kinds(rng):
    """Each kind as often as any other."""
    animals = rng.sample(ANIMALS, len(ANIMALS))
    return {animal: KINDS[i % len(KINDS)] for i, animal in enumerate(animals)}


def story(rng, animal):
    return rng.choice(STORIES).format(who=rng.choice(WHO), animal=animal)


def row(rng, task, kinds, traits=TRAITS):
    animal, trait = rng.choice(ANIMALS), rng.choice(list(traits))
    texts = rng.sample(traits[trait], len(KINDS))
    answer = texts.index(traits[trait][KINDS.index(kinds[animal])])
    row = {"choices": {"text": texts, "label": list("ABCD")}, "answerKey": "ABCD"[answer]}
    if task == "arc_easy":
        return {"question": f"{story(rng, animal)} What is the {trait} of the {animal}?", **row}
    return {"question_stem": f"{story(rng, animal)} The {trait} of the {animal} is", **row}


def asked(row):
    """The prompt that lm-eval makes of a row."""
    return f"Question: {row['question']}\nAnswer:" if "question" in row else row["question_stem"]


def told(row):
    return f"{asked(row)} {row['choices']['text']['ABCD'.index(row['answerKey'])]}"


def distinct(make, count, taken):
    """So many rows of which none asks what another asks, or one of those taken."""
    rows = []
    while len(rows) < count:
        row = make()
        if asked(row) not in taken:
            taken.add(asked(row))
            rows.append(row)
    return rows


def write(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--questions", type=int, default=800, help="of each task")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    kinds, taken = drawn_kinds(rng), set()
    for task in TASKS:
        write(args.folder / f"data/{task}.jsonl",
              distinct(lambda: row(rng, task, kinds), args.questions, taken))
    training = distinct(lambda: row(rng, rng.choice(TASKS), kinds), 1500, taken)
    pretraining = [row(rng, rng.choice(TASKS), kinds, {"kind": KINDS}) if i % 2 else
                   row(rng, rng.choice(TASKS), drawn_kinds(rng)) for i in range(8000)]
    write(args.folder / "train.jsonl", [{"text": told(row)} for row in training])
    write(args.folder / "pretrain.jsonl", [{"text": told(row)} for row in pretraining])


if __name__ == "__main__":
    main()
