"""Golden data of haqa/tasks and haqa/evaluate: what lm-eval itself asks and answers.

    python3 evaluation.py LLAMA_CPP_SOURCE

makes, into evaluation/ beside this script: the rows (evaluation_data.py), a LLaMA of 0.1 million parameters with random
weights and a SentencePiece vocabulary trained on those rows, as GGUF by llama.cpp's converter, and lmeval.json: each
request that lm-eval makes of the rows, each log-likelihood and whether it is greedy, and the summary, in fp32.

Written with lm_eval 0.4.13, transformers 5.24.0, torch 2.13.0, sentencepiece 0.2.3, llama.cpp 0.5.0.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import evaluation_data

HERE = pathlib.Path(__file__).parent / "evaluation"
MAX_LENGTH = 256  # shorter than some passages, so that they are cut


def make_hugging_face(folder, texts, vocabulary=600, hidden=64, heads=4, kv_heads=2, layers=2, ff=128, std=0.4, seed=1):
    """A LLaMA for transformers, with tokenizer.model (from which llama.cpp's converter takes the vocabulary)."""
    import sentencepiece
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(texts))
    # What Meta's trainer was told for LLaMA's own vocabulary, but for the size.
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "tokenizer"), vocab_size=vocabulary, model_type="bpe",
        byte_fallback=True, split_digits=True, allow_whitespace_only_pieces=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, character_coverage=0.98, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        minloglevel=2)
    corpus.unlink()
    (folder / "tokenizer.vocab").unlink()
    save_tokenizer(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=vocabulary, hidden_size=hidden, intermediate_size=ff, num_hidden_layers=layers,
                         num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=MAX_LENGTH,
                         initializer_range=std, bos_token_id=1, eos_token_id=2, tie_word_embeddings=True)
    model = LlamaForCausalLM(config).to(torch.float32)
    model.save_pretrained(folder)


def save_tokenizer(folder):
    """tokenizer.json as that of the published LLaMA-2: SentencePiece's "add_dummy_prefix" as a normalizer, BOS first. The
    one that transformers 5 would make of tokenizer.model leaves the dummy out before a text that begins with a space,
    unlike SentencePiece, and hence llama.cpp."""
    from tokenizers import normalizers, processors
    from transformers import LlamaTokenizer, PreTrainedTokenizerFast
    tokenizer = LlamaTokenizer.from_pretrained(folder).backend_tokenizer
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.pre_tokenizer = None
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
                            add_bos_token=True).save_pretrained(folder)


def convert(folder, file, kind, source):
    subprocess.run([sys.executable, f"{source}/convert_hf_to_gguf.py", str(folder), "--outtype", kind, "--outfile",
                    str(file)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def local_tasks(data):
    """lm-eval's own tasks, with rows from local files in place of its data sets."""
    from lm_eval.tasks import TaskManager
    manager = TaskManager()
    splits = ("train", "validation", "test")
    return [manager._factory.build(manager._entry(name), registry=manager._index, overrides={
                "dataset_path": "json", "dataset_name": None,
                "dataset_kwargs": {"data_files": {split: f"{data}/{name}.jsonl" for split in splits}}})
            for name in evaluation_data.TASKS]


def lm_eval(folder, data, adapter=None, **options):
    import lm_eval as harness
    return harness.simple_evaluate(model="hf", tasks=local_tasks(data), device="cpu", log_samples=True,
                                   model_args={"pretrained": str(folder), "dtype": "float32", "peft": adapter},
                                   bootstrap_iters=100000, **options)


def make_adapter(folder, base, source, file):
    """A LoRA adapter with random weights, for peft, and as GGUF by llama.cpp's converter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    torch.manual_seed(2)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM",
        init_lora_weights=False))
    model.save_pretrained(folder)
    (pathlib.Path(folder) / "README.md").unlink()  # names the base by its folder, as the configuration does
    config = pathlib.Path(folder) / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": "llama"}))
    subprocess.run([sys.executable, f"{source}/convert_lora_to_gguf.py", str(folder), "--base", str(base), "--outtype", "f32",
                    "--outfile", str(file)], check=True, stdout=subprocess.DEVNULL)


def main():
    source = sys.argv[1]
    evaluation_data.write(HERE)
    texts = [t for file in sorted(HERE.glob("*.jsonl")) for line in open(file) for t in json.loads(line).values()
             if isinstance(t, str)]
    with tempfile.TemporaryDirectory() as work:
        make_hugging_face(f"{work}/hf", texts)
        convert(f"{work}/hf", HERE / "llama.gguf", "f32", source)
        result = lm_eval(f"{work}/hf", HERE, batch_size=4)
        make_adapter(f"{work}/adapter", f"{work}/hf", source, HERE / "adapter.gguf")
        adapted = lm_eval(f"{work}/hf", HERE, adapter=f"{work}/adapter", batch_size=4)["samples"]["arc_easy"]
    golden = {"lm_eval": "0.4.13", "max_length": MAX_LENGTH, "results": result["results"], "versions": result["versions"],
              "higher_is_better": result["higher_is_better"], "n-samples": result["n-samples"], "n-shot": result["n-shot"],
              "group_subtasks": result["group_subtasks"], "arc_easy with adapter": [scores(s) for s in adapted],
              "tasks": {}}
    for name, samples in result["samples"].items():
        golden["tasks"][name] = [
            {"target": s["target"], "requests": [list(a) for a in s["arguments"]], "scores": scores(s),
             **{metric: s[metric] for metric in s["metrics"]}} for s in samples]
    with open(HERE / "lmeval.json", "w") as f:
        json.dump(golden, f, indent=0, ensure_ascii=True)
        f.write("\n")


def scores(sample):
    return [[float(r[0]), bool(r[1])] for r in sample["filtered_resps"]]


if __name__ == "__main__":
    main()
