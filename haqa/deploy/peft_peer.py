"""Hugging Face's side of hugging_face_test.cpp: transformers and peft as they come. Prints one JSON object.

make FOLDER KV_HEADS   writes FOLDER/base, a tiny LLaMA with random weights and a tokenizer, and FOLDER/plain and
                       FOLDER/patterned, adapters by peft with random numbers; {"tokens", "plain", "patterned"}: logits
                       [position][vocabulary] of the base with each
check BASE ADAPTER...  for each: {"peft": logits of the base with the adapter as peft loads it, "product": the same of
                       transformers alone, with W + alpha / r * B * A put into its weights}
"""
import io
import json
import sys
from pathlib import Path

import sentencepiece
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizer

TOKENS = [1, 17, 300, 42, 5, 499, 260, 261, 3, 77, 42, 17]
WORDS = "the adapter of a model is a small change to every large matrix that it has".split()


def make_base(folder, kv_heads):
    torch.manual_seed(kv_heads)
    config = LlamaConfig(vocab_size=512, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=kv_heads, max_position_embeddings=128)
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    pieces = io.BytesIO()
    text = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))] * 10
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(text), model_writer=pieces, vocab_size=300,
                                             model_type="bpe", byte_fallback=True, minloglevel=2)
    (folder / "tokenizer.model").write_bytes(pieces.getvalue())
    LlamaTokenizer(str(folder / "tokenizer.model")).save_pretrained(folder)


def make_adapter(base, folder, **options):
    model = get_peft_model(LlamaForCausalLM.from_pretrained(base), LoraConfig(task_type="CAUSAL_LM", **options))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    return logits(model)


def logits(model):
    with torch.no_grad():
        return model.eval()(torch.tensor([TOKENS])).logits[0].tolist()


def product(base, adapter):
    model = LlamaForCausalLM.from_pretrained(base)
    config = json.loads((adapter / "adapter_config.json").read_text())
    tensors = load_file(adapter / "adapter_model.safetensors")
    for name, a in tensors.items():
        if name.endswith(".lora_A.weight"):
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            b = tensors[name.replace(".lora_A.", ".lora_B.")]
            delta = config["lora_alpha"] / config["r"] * (b.double() @ a.double())
            model.get_submodule(module).weight.data += delta.float()
    return logits(model)


command, folder = sys.argv[1], Path(sys.argv[2])
if command == "make":
    base = folder / "base"
    make_base(base, int(sys.argv[3]))
    result = {
        "tokens": TOKENS,
        "plain": make_adapter(base, folder / "plain", r=4, lora_alpha=8, target_modules="all-linear"),
        "patterned": make_adapter(base, folder / "patterned", r=3, lora_alpha=5, use_rslora=True,
                                  target_modules=["q_proj", "k_proj", "down_proj", "lm_head"],
                                  rank_pattern={"k_proj": 6, "model.layers.1.mlp.down_proj": 2},
                                  alpha_pattern={"layers.0.self_attn.q_proj": 1}),
    }
else:
    result = [{"peft": logits(PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(folder), adapter)),
               "product": product(folder, Path(adapter))} for adapter in sys.argv[3:]]
print(json.dumps(result))
