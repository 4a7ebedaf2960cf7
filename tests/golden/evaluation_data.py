"""Rows of the eight tasks in exactly their data sets' fields, generated: words by a seeded generator, and odd cases by
hand (brackets, white space of many kinds, letters beyond ASCII, long passages, options that MathQA's pattern takes in
unexpected ways). Writes NAME.jsonl for each task into a folder:

    python3 evaluation_data.py FOLDER [ITEMS]     without ITEMS the golden data, odd cases included
"""
import json
import pathlib
import random
import sys

WORDS = """the a of and in to is was that it he she they for on with as at by from this which an be are not but had his
her river stone bridge engineer water light energy plant animal heat metal child teacher ball house tree number train
speed per hour percent profit sum ratio people city morning evening market price weight gold silver music paper book
city's don't co-operate 12 37 1,250 0.5 3/4 naïve café größer Москва 東京""".split()
ODD = ["", " ", "  two  spaces ", "tab\there", "trailing space ", "\u00a0no-break\u00a0", "line\nbreak", "İstanbul ΌΔΟΣ",
       "emoji 🦙 llama", "a [b] c", "<s> is a token", "</s>", "e\u0301 combined", "zero\u200bwidth", "\u3000wide\u3000"]


class Rows:
    def __init__(self, seed, longest):
        self.random = random.Random(seed)
        self.longest = longest

    def words(self, low, high):
        return " ".join(self.random.choice(WORDS) for _ in range(self.random.randint(low, high)))

    def sentence(self, low, high):
        text = self.words(low, high)
        return text[0].upper() + text[1:] + "."

    def boolq(self, i):
        return {"question": self.words(4, 12), "passage": " ".join(self.sentence(5, 20) for _ in range(
                self.random.choice([2, 4, 8, self.longest]))), "idx": i, "label": self.random.randint(0, 1)}

    def rte(self, i):
        return {"sentence1": self.sentence(8, 40), "sentence2": self.sentence(4, 10),
                "label": self.random.randint(0, 1), "idx": i}

    def winogrande(self, i):
        return {"sentence": f"{self.words(3, 10)} _ {self.words(3, 10)}.", "option1": self.words(1, 2),
                "option2": self.words(1, 2), "answer": str(self.random.randint(1, 2))}

    def choices(self, n, low, high, labels):
        return {"text": [self.words(low, high) for _ in range(n)], "label": labels[:n]}

    def openbookqa(self, i):
        return {"id": f"{i}-x", "question_stem": self.words(3, 14),
                "choices": self.choices(4, 1, 6, list("ABCD")), "answerKey": self.random.choice("ABCD")}

    def arc(self, i):
        labels = self.random.choice([list("ABCDE"), list("12345")])
        n = self.random.choice([3, 4, 4, 4, 4, 5])
        return {"id": f"Mercury_{i}", "question": self.sentence(6, 25)[:-1] + "?",
                "choices": self.choices(n, 1, 8, labels), "answerKey": self.random.choice(labels[:n])}

    arc_challenge = arc_easy = arc

    def hellaswag(self, i):
        ctx_a, ctx_b = self.sentence(6, 25), self.words(0, 3)
        if self.random.random() < 0.3:
            ctx_a = f"[header] {self.words(2, 4)} [title] {self.words(2, 5)} [step] {ctx_a}"
        endings = [self.words(4, 20) + "." for _ in range(4)]
        if self.random.random() < 0.3:
            endings = [e.replace(" ", " [substeps] ", 1) for e in endings]
        return {"ind": i, "activity_label": self.words(1, 3), "ctx_a": ctx_a, "ctx_b": ctx_b, "ctx": f"{ctx_a} {ctx_b}",
                "endings": endings, "source_id": f"activitynet~{i}", "split": "val", "split_type": "indomain",
                "label": str(self.random.randint(0, 3))}

    def mathqa(self, i):
        options = ", ".join(f"{letter} ) {self.random.choice([self.words(1, 3), str(self.random.randint(1, 9999)), 'rs . 1,250', 'none of these'])}"
                            for letter in "abcde")
        return {"Problem": self.words(8, 30) + " ?", "Rationale": self.words(3, 9), "options": options,
                "correct": self.random.choice("abcde"), "annotated_formula": "add(1,2)", "linear_formula": "add(n0,n1)|",
                "category": "general"}


def odd_rows(name, rows):
    """Cases that a careless reading gets wrong."""
    out = []
    for i, odd in enumerate(ODD):
        row = getattr(rows, name)(1000 + i)
        if name == "boolq":
            row["passage"] = odd + row["passage"][:60]
            row["question"] += odd
        elif name == "rte":
            row["sentence2"] = odd + row["sentence2"] + odd
        elif name == "winogrande":
            row["sentence"] = [f"{odd}_ {odd} end", f"start {odd} _", f"{odd} _ one _ two {odd}"][i % 3]
            row["option1"] = odd + "x" if i % 2 else "x" + odd
        elif name == "openbookqa":
            row["question_stem"] = "stem " + odd + ("" if odd.strip() else " ")
            row["choices"]["text"][0] = odd
            row["answerKey"] = " " + row["answerKey"]
        elif name.startswith("arc"):
            row["question"] = odd + row["question"] + odd
            row["choices"]["text"][1] = odd
        elif name == "hellaswag":
            row["ctx_a"] = odd + row["ctx_a"] + odd
            row["ctx_b"] = odd + "HE SAID " + odd
            row["endings"][2] = odd + " [x] [y]  z" + odd
        elif name == "mathqa":
            row["Problem"] = odd + row["Problem"] + odd
        out.append(row)
    if name == "hellaswag":
        for ctx, ending in [("[a [b] c]", "one   two    three"), ("open [ never closed", "[all of it]"),
                            ("broken [over\nlines] here", " [title] at the start [title]"), ("ends in [x]", "x [title][y] z"),
                            ("ßtraße ǆ ﬁ ŉ ΑΣ", "ὈΔΥΣΣΕΎΣ ς Σ"), ("ends. ", "  . ")]:
            row = rows.hellaswag(2000)
            row["ctx_a"], row["ctx_b"], row["endings"][0] = ctx, ctx, ending
            row["label"] = int(row["label"]) if ctx.startswith("[") else row["label"]
            out.append(row)
        for row in out:
            row["label"] = str(row["label"])
    if name == "mathqa":
        for options in ["a ) 1 , b ) 2 , c ) 3 , d ) 4 , e ) 5 ", "a ) 38 , b ) 27.675 , c ) 30 , d ) data inadequate , e ) none of these",
                        "a ) rs . 1,250, b ) 1, 2, c ) d ) 3, d ) e ) 4, e ) none", "a ) 1, b ) 2, c ) 3, d ) 4",
                        "a ) 1, b ) 2, c ) 3, e ) 5", "['a ) 8', 'b ) 9', 'c ) 10', 'd ) 11', 'e ) 12']", "a ) x , e ) y\n",
                        "a ) é, b ) 東京 , c ) 🦙, d ) Москва, e ) ",
                        "a )one, b ) two, c ) three, d ) four, e ) five,, "]:
            row = rows.mathqa(2000)
            row["options"] = options
            out.append(row)
    return out


TASKS = ["boolq", "rte", "winogrande", "openbookqa", "arc_challenge", "arc_easy", "hellaswag", "mathqa"]


def write(folder, items=None, longest=40):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(TASKS):
        rows = Rows(seed, longest)
        out = [getattr(rows, name)(i) for i in range(items or 10)]
        if not items:
            out += odd_rows(name, rows)
        with open(folder / f"{name}.jsonl", "w") as f:
            for row in out:
                f.write(json.dumps(row, ensure_ascii=rows.random.random() < 0.5) + "\n")


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
