"""The peer of benchmarks/training_step.cpp: a plain Llama in PyTorch with scaled_dot_product_attention and fused AdamW.

    python benchmarks/peer_torch.py --shape small|wide --step train|distill [--compile] [--seconds S] [--dtype float32|bfloat16]

Distillation is the straightforward loop: teacher forward without gradient, mean squared error of one hidden state,
KL(student || teacher) and cross-entropy against the teacher's argmax from full logits. Prints one line of JSON.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

SHAPES = {
    "small": dict(layers=12, hidden=128, heads=8, kv_heads=4, head_dim=16, mlp=344, vocab=512, rows=8, tokens=256),
    "wide": dict(layers=6, hidden=768, heads=12, kv_heads=12, head_dim=64, mlp=3072, vocab=32000, rows=2, tokens=256),
}


class Layer(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        width = s["head_dim"]
        self.q = nn.Linear(s["hidden"], s["heads"] * width, bias=False)
        self.k = nn.Linear(s["hidden"], s["kv_heads"] * width, bias=False)
        self.v = nn.Linear(s["hidden"], s["kv_heads"] * width, bias=False)
        self.o = nn.Linear(s["heads"] * width, s["hidden"], bias=False)
        self.gate = nn.Linear(s["hidden"], s["mlp"], bias=False)
        self.up = nn.Linear(s["hidden"], s["mlp"], bias=False)
        self.down = nn.Linear(s["mlp"], s["hidden"], bias=False)
        self.norm1 = nn.RMSNorm(s["hidden"], eps=1e-5)
        self.norm2 = nn.RMSNorm(s["hidden"], eps=1e-5)

    def forward(self, x, cosine, sine):
        batch, tokens, _ = x.shape
        width = self.s["head_dim"]
        h = self.norm1(x)

        def heads(y, n):
            return y.view(batch, tokens, n, width).transpose(1, 2)

        def rotate(y):
            a, b = y.chunk(2, -1)
            return y * cosine + torch.cat([-b, a], -1) * sine

        q = rotate(heads(self.q(h), self.s["heads"]))
        k = rotate(heads(self.k(h), self.s["kv_heads"]))
        v = heads(self.v(h), self.s["kv_heads"])
        group = self.s["heads"] // self.s["kv_heads"]
        if group > 1:
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(o.transpose(1, 2).reshape(batch, tokens, -1))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.embed = nn.Embedding(s["vocab"], s["hidden"])
        self.layers = nn.ModuleList(Layer(s) for _ in range(s["layers"]))
        self.norm = nn.RMSNorm(s["hidden"], eps=1e-5)
        self.head = nn.Linear(s["hidden"], s["vocab"], bias=False)
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)
        half = s["head_dim"] // 2
        angle = torch.outer(torch.arange(s["tokens"]).float(), 10000.0 ** (-torch.arange(half).float() / half))
        self.register_buffer("cosine", torch.cat([angle.cos()] * 2, -1))
        self.register_buffer("sine", torch.cat([angle.sin()] * 2, -1))

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x, self.cosine.to(x.dtype), self.sine.to(x.dtype))
        return self.head(self.norm(x)), x


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--step", choices=["train", "distill"], default="train")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    s = SHAPES[args.shape]
    student, teacher = Llama(s), Llama(s).requires_grad_(False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
    ids = torch.randint(s["vocab"], (s["rows"], s["tokens"]))
    labels = torch.randint(s["vocab"], (s["rows"], s["tokens"]))
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "bfloat16")

    def loss_of(ids, labels):
        logits, state = student(ids)
        if args.step == "train":
            return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        with torch.no_grad():
            target, target_state = teacher(ids)
        log_s = F.log_softmax(logits.float(), -1)
        log_t = F.log_softmax(target.float(), -1)
        kl = (log_s.exp() * (log_s - log_t)).sum(-1).mean()
        hard = F.nll_loss(log_s.flatten(0, 1), target.argmax(-1).flatten())
        return 0.25 * F.mse_loss(state.float(), target_state.float()) + 0.25 * kl + 0.5 * hard

    if args.compile:
        loss_of = torch.compile(loss_of)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            loss = loss_of(ids, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    for _ in range(3):
        loss = step()
    times = []
    start = time.perf_counter()
    while time.perf_counter() - start < args.seconds or len(times) < 5:
        begin = time.perf_counter()
        loss = step()
        times.append(time.perf_counter() - begin)
    median = statistics.median(times)
    print(json.dumps(dict(engine="torch-compiled" if args.compile else "torch-eager", version=torch.__version__,
                          shape=args.shape, step=args.step, dtype=args.dtype, threads=torch.get_num_threads(),
                          steps=len(times), median_seconds=median, best_seconds=min(times),
                          tokens_per_second=s["rows"] * s["tokens"] / median, loss=loss)))


if __name__ == "__main__":
    main()
