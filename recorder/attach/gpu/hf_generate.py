"""`generate` of Hugging Face transformers with a static cache: its decode step is compiled, and runs from the CUDA
graphs that torch.compile makes. A small Qwen3 with random weights; nothing here knows of twinstep.

    twinstep attach -o graph.twin -- python hf_generate.py
"""

import argparse
import hashlib

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.generation import CompileConfig

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--graphs", choices=["on", "off"], default="on", help="off: the same kernels, launched one by one")
parser.add_argument("--tokens", type=int, default=24)
options = parser.parse_args()
torch.manual_seed(3)
config = Qwen3Config(
    vocab_size=2000, hidden_size=256, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, head_dim=64, bos_token_id=None, eos_token_id=None, pad_token_id=0,
)  # fmt: skip
model = Qwen3ForCausalLM(config).eval().cuda()
digest = hashlib.sha256()
for prompt in ([5, 17, 400, 3], [9, 8, 7, 6]):
    made = model.generate(
        torch.tensor([prompt]).cuda(), attention_mask=torch.ones(1, len(prompt), dtype=torch.int64).cuda(),
        max_new_tokens=options.tokens, do_sample=False, cache_implementation="static", output_logits=True,
        return_dict_in_generate=True,
        compile_config=CompileConfig(mode="reduce-overhead" if options.graphs == "on" else "default", fullgraph=False),
    )  # fmt: skip
    print(made.sequences[0].tolist())
    for logits in made.logits:
        digest.update(logits.cpu().numpy().tobytes())
print(digest.hexdigest())
