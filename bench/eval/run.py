"""Questions a second: `haqa eval` against lm-eval with transformers. See run.sh, which calls this.

In favour of the peer: its time is that of lm_eval.evaluate() alone, in a process that has loaded its libraries and the
model; ours is that of the whole program, loading included. The peer runs in fp32 and in bf16, which the model's weights
are stored in, with the largest batch size that is of use. A contender counts only where its predictions agree with
lm-eval's in fp32, but for close calls.
"""
import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "golden"))
import evaluation  # noqa: E402
import evaluation_data  # noqa: E402

OURS = {"haqa F32": "f32", "haqa F16": "f16", "haqa BF16": "bf16"}
PEERS = {"lm-eval fp32": "float32", "lm-eval bf16": "bfloat16"}  # the first is the reference


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", required=True, help="folder of llama.cpp, as setup.sh --path prints it")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--items", type=int, default=12, help="questions of each task")
    parser.add_argument("--rounds", type=int, default=6, help="times that each contender has its turn")
    parser.add_argument("--batch-size", type=int, default=8, help="lm-eval's")
    parser.add_argument("--results", default=str(ROOT / "bench/results/eval.json"))
    return parser.parse_args()


def make_model(folder, llama):
    """LLaMA with the published vocabulary, 134 million random weights, in bf16."""
    import gguf
    import torch
    from sentencepiece import sentencepiece_model_pb2 as sp
    from transformers import LlamaConfig, LlamaForCausalLM
    folder.mkdir(parents=True)
    reader = gguf.GGUFReader(f"{llama}/source/models/ggml-vocab-llama-spm.gguf")
    fields = {key: reader.fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "scores", "token_type")}
    model = sp.ModelProto()
    model.trainer_spec.model_type = sp.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.vocab_size = len(fields["tokens"])
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.remove_extra_whitespaces = False
    for token, score, kind in zip(*fields.values()):
        model.pieces.add(piece=token, score=score, type=kind)
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    evaluation.save_tokenizer(folder)
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=32000, hidden_size=768, intermediate_size=2048, num_hidden_layers=12,
                         num_attention_heads=12, num_key_value_heads=12, max_position_embeddings=2048,
                         initializer_range=0.05, bos_token_id=1, eos_token_id=2)
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


class Peer:
    """lm-eval with its model and its tasks loaded."""

    def __init__(self, folder, data, dtype, args):
        import lm_eval
        import torch
        from lm_eval.models.huggingface import HFLM
        torch.set_num_threads(args.threads)
        self.harness = lm_eval
        self.model = HFLM(pretrained=str(folder), dtype=dtype, device="cpu", batch_size=args.batch_size)
        self.tasks = evaluation.local_tasks(data)

    def run(self):
        from lm_eval.tasks import TaskManager
        tasks = TaskManager().load(self.tasks)
        for task in self.tasks:
            task._instances = None
        begin = time.perf_counter()
        result = self.harness.evaluate(lm=self.model, task_dict=tasks, log_samples=True, bootstrap_iters=100)
        seconds = time.perf_counter() - begin
        return seconds, {name: [[float(r[0]) for r in s["filtered_resps"]] for s in samples]
                         for name, samples in result["samples"].items()}


def run_ours(file, data, work, args):
    begin = time.perf_counter()
    subprocess.run([ROOT / "build/bin/haqa", "eval", file, "--data", data, "--threads", str(args.threads), "--samples",
                    work / "samples.jsonl", "--json", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - begin
    scores = {}
    for line in open(work / "samples.jsonl"):
        sample = json.loads(line)
        scores.setdefault(sample["task"], []).append([float(r[0]) for r in sample["filtered_resps"]])
    return seconds, scores


def agreement(scores, reference):
    """Share of questions with the reference's prediction, and the largest difference of two log-likelihoods."""
    same, worst, n = 0, 0.0, 0
    for name, questions in reference.items():
        for want, got in zip(questions, scores[name], strict=True):
            same += want.index(max(want)) == got.index(max(got))
            worst = max([worst] + [abs(a - b) for a, b in zip(want, got, strict=True)])
            n += 1
    return {"same_prediction": same / n, "largest_difference": worst}


def estimate(ratios):
    """The median, and between which ordered values the true one lies with 95 %, as haqa/base/stats.h has it."""
    from math import comb
    ordered, n = sorted(ratios), len(ratios)
    skip = 0
    while 2 * sum(comb(n, i) for i in range(skip + 1)) / 2 ** n <= 0.05:
        skip += 1
    skip = max(0, skip - 1)
    return {"median": statistics.median(ordered), "low": ordered[skip], "high": ordered[n - 1 - skip], "samples": n}


def machine(args):
    cpu = [l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")]
    flags = next((l.split() for l in open("/proc/cpuinfo") if l.startswith("flags")), [])
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {"machine": cpu[0] if cpu else platform.machine(), "cores": os.cpu_count(), "threads": args.threads,
            "instruction_sets": [f for f in flags if f in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")],
            "system": platform.system(), "python": platform.python_version(),
            "haqa": commit.stdout.strip(), "llama.cpp": "0.5.0",
            **{p: importlib.metadata.version(p) for p in ("lm_eval", "transformers", "torch")}}


def main():
    args = parse()
    work = ROOT / "build/bench-eval"
    folder, data = work / "model", work / "data"
    about = machine(args)
    if not (work / "complete").exists():
        subprocess.run(["rm", "-rf", work], check=True)
        n_parameters = make_model(folder, args.llama)
        for kind in OURS.values():
            evaluation.convert(folder, work / f"{kind}.gguf", kind, f"{args.llama}/source")
        (work / "complete").write_text(str(n_parameters))
    evaluation_data.write(data, args.items, longest=12)
    n_items = args.items * len(evaluation_data.TASKS)
    contenders = {name: Peer(folder, data, dtype, args).run for name, dtype in PEERS.items()}
    for name, kind in OURS.items():
        contenders[name] = lambda kind=kind: run_ours(work / f"{kind}.gguf", data, work, args)
    seconds, agree, loads = {name: [] for name in contenders}, {}, []
    reference = None
    for name, run in contenders.items():  # everybody's first run is not counted
        scores = run()[1]
        reference = reference or scores
        agree[name] = agreement(scores, reference)
    for _ in range(args.rounds):
        loads.append(os.getloadavg()[0])
        for name, run in contenders.items():
            seconds[name].append(run()[0])
            print(f"{name:14} {n_items / seconds[name][-1]:8.2f} questions/s", flush=True)
    command = f"bench/eval/run.sh --items {args.items} --rounds {args.rounds} --threads {args.threads}"
    result = {"about": about, "command": command, "parameters": int((work / "complete").read_text()),
              "items": n_items, "batch_size": args.batch_size, "agreement": agree, "load": loads,
              "seconds": seconds,
              "items_per_s": {name: n_items / statistics.median(s) for name, s in seconds.items()},
              "ratio": {f"{ours} to {peer}": estimate([p / o for p, o in zip(seconds[peer], seconds[ours])])
                        for ours in OURS for peer in PEERS}}
    pathlib.Path(args.results).write_text(json.dumps(result, indent=1) + "\n")
    for pair, ratio in result["ratio"].items():
        print(f"{pair}: {ratio['median']:.2f} times ({ratio['low']:.2f} to {ratio['high']:.2f})")
    for name, a in agree.items():
        print(f"{name:14} same prediction as lm-eval fp32: {100 * a['same_prediction']:.1f} %, log-likelihoods within {a['largest_difference']:.3g}")


if __name__ == "__main__":
    main()
