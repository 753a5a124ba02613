"""PyTorch's side of benchmarks/compare_gpu.py: answers the requests of benchmarks/gpu_benchmark.cpp, one line of JSON each.

    python benchmarks/peer_torch_gpu.py [--device cuda|cpu] < requests

Attention is scaled_dot_product_attention on cuDNN with grouped heads. A step is a compiled loss of a Llama under bf16 autocast
over f32 parameters, residual stream in bf16, clipping by the global norm, fused AdamW. Distillation is the loop that people
write: eager, transformers' Llama where it is installed, hidden states of all layers, KL + hard label from whole logits + mean
squared error. Generation is one compiled step over a static cache, recorded in a CUDA graph. Sizes come with the requests.
"""
import argparse
import gc
import json
import math
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

DEVICE = torch.device("cuda")
ATTENTION = {"backend": "default", "grouped": True}


def wait():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def attend(q, k, v, causal=True, mask=None):
    """(B, H, T, Dh) with Hkv heads of keys and values."""
    if not ATTENTION["grouped"]:
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=ATTENTION["grouped"])


def allow_backends(cudnn, flash, others):
    torch.backends.cuda.enable_cudnn_sdp(cudnn)
    torch.backends.cuda.enable_flash_sdp(flash)
    torch.backends.cuda.enable_mem_efficient_sdp(others)
    torch.backends.cuda.enable_math_sdp(others)


def choose_attention():
    """cuDNN with grouped heads; where that does not run, with repeated keys and values; then the flash kernel; then any."""
    if DEVICE.type != "cuda":
        return
    for backend, grouped in (("cudnn", True), ("cudnn", False), ("flash", True), ("flash", False), ("default", True)):
        ATTENTION.update(backend=backend, grouped=grouped)
        use_attention(backend)
        try:
            q = torch.randn(1, 128, 8, 64, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
            kv = torch.randn(1, 128, 2, 64, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
            o = attend(*(x.transpose(1, 2) for x in (q, kv, kv)))
            o.backward(torch.randn_like(o))
            wait()
            return
        except RuntimeError as error:
            print(f"attention on {backend}, grouped {grouped}: {error}".splitlines()[0], file=sys.stderr)


def use_attention(backend):
    if DEVICE.type == "cuda":
        allow_backends(backend in ("cudnn", "default"), backend in ("flash", "default"), backend == "default")


# ---- the model ------------------------------------------------------------------------------------------------------


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-5)
        return y.to(x.dtype) * self.weight.to(x.dtype)


def rotate(x, cosine, sine):
    a, b = x.chunk(2, -1)
    return x * cosine + torch.cat([-b, a], -1) * sine


class Layer(nn.Module):
    """Projections of one input are one matrix, as in our model."""

    def __init__(self, m):
        super().__init__()
        self.heads, self.kv_heads, self.width = m["heads"], m["kv_heads"], m["head_dim"]
        self.qkv = nn.Linear(m["hidden"], (m["heads"] + 2 * m["kv_heads"]) * m["head_dim"], bias=False)
        self.o = nn.Linear(m["heads"] * m["head_dim"], m["hidden"], bias=False)
        self.gate_up = nn.Linear(m["hidden"], 2 * m["mlp"], bias=False)
        self.down = nn.Linear(m["mlp"], m["hidden"], bias=False)
        self.norm1, self.norm2 = Norm(m["hidden"]), Norm(m["hidden"])

    def forward(self, x, cosine, sine, cache=None, position=None, mask=None):
        batch, tokens, _ = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, tokens, -1, self.width).transpose(1, 2)
        q, k, v = qkv.split([self.heads, self.kv_heads, self.kv_heads], 1)
        q, k = rotate(q, cosine, sine), rotate(k, cosine, sine)
        if cache is None:
            o = attend(q, k, v)
        else:
            cache[0].index_copy_(2, position, k)
            cache[1].index_copy_(2, position, v)
            o = attend(q, cache[0], cache[1], causal=False, mask=mask)
        x = x + self.o(o.transpose(1, 2).reshape(batch, tokens, -1))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Llama(nn.Module):
    def __init__(self, m, positions):
        super().__init__()
        self.embed = nn.Embedding(m["vocab"], m["hidden"])
        self.layers = nn.ModuleList(Layer(m) for _ in range(m["layers"]))
        self.norm = Norm(m["hidden"])
        self.head = nn.Linear(m["hidden"], m["vocab"], bias=False)
        half = m["head_dim"] // 2
        angle = torch.outer(torch.arange(positions).float(), 10000.0 ** (-torch.arange(half).float() / half))
        self.register_buffer("cosine", torch.cat([angle.cos()] * 2, -1))
        self.register_buffer("sine", torch.cat([angle.sin()] * 2, -1))

    def forward(self, ids, dtype):
        x = self.embed(ids).to(dtype)
        cosine, sine = self.cosine[: ids.shape[1]].to(dtype), self.sine[: ids.shape[1]].to(dtype)
        states = []
        for layer in self.layers:
            x = layer(x, cosine, sine)
            states.append(x)
        return self.head(self.norm(x)), states

    def decode(self, ids, position, caches, mask):
        x = self.embed(ids)
        cosine, sine = self.cosine[position].to(x.dtype), self.sine[position].to(x.dtype)
        for layer, cache in zip(self.layers, caches):
            x = layer(x, cosine, sine, cache, position, mask)
        return self.head(self.norm(x))


class Transformers(nn.Module):
    """transformers' Llama with the interface of the one above."""

    def __init__(self, m, positions):
        super().__init__()
        from transformers import LlamaConfig, LlamaForCausalLM
        self.model = LlamaForCausalLM(LlamaConfig(
            vocab_size=m["vocab"], hidden_size=m["hidden"], intermediate_size=m["mlp"], num_hidden_layers=m["layers"],
            num_attention_heads=m["heads"], num_key_value_heads=m["kv_heads"], head_dim=m["head_dim"],
            max_position_embeddings=positions, rms_norm_eps=1e-5, attn_implementation="sdpa", use_cache=False))

    def forward(self, ids, dtype):
        out = self.model(input_ids=ids, output_hidden_states=True, use_cache=False)
        return out.logits, list(out.hidden_states[1:])


def make_model(kind, m, positions, dtype=torch.float32):
    with torch.device(DEVICE):
        model = kind(m, positions)
        with torch.no_grad():
            for p in model.parameters():
                if p.dim() == 2:
                    p.normal_(std=0.02)
    return model.to(dtype)


# ---- cases: each returns (work, before, report, iterations or 0) ---------------------------------------------------------


def nothing():
    return {}


def dtype_of(request):
    return {"bf16": torch.bfloat16, "f32": torch.float32}[request.get("dtype", "bf16")]


def copy_case(r):
    source = torch.rand(r["bytes"] // 4, device=DEVICE)
    target = torch.empty_like(source)
    return lambda: target.copy_(source), nothing, nothing, 0


def matmul_case(r):
    a = torch.randn(r["m"], r["k"], device=DEVICE, dtype=dtype_of(r))
    b = torch.randn(r["k"], r["n"], device=DEVICE, dtype=dtype_of(r))
    c = torch.empty(r["m"], r["n"], device=DEVICE, dtype=dtype_of(r))
    return lambda: torch.mm(a, b, out=c), nothing, nothing, 0


def attention_operands(r, gradient):
    use_attention(ATTENTION["backend"])

    def heads(count):
        x = torch.randn(r["rows"], r["tokens"], count, r["head_dim"], device=DEVICE, dtype=dtype_of(r))
        return x.transpose(1, 2).requires_grad_(gradient)

    q, k, v = heads(r["heads"]), heads(r["kv_heads"]), heads(r["kv_heads"])
    if not ATTENTION["grouped"]:  # not part of what is timed
        group = r["heads"] // r["kv_heads"]
        k, v = (x.detach().repeat_interleave(group, 1).requires_grad_(gradient) for x in (k, v))
    return q, k, v


def attention_forward_case(r):
    q, k, v = attention_operands(r, False)

    def work():
        with torch.no_grad():
            F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=ATTENTION["grouped"])

    return work, nothing, lambda: dict(ATTENTION), 0


def attention_backward_case(r):
    q, k, v = attention_operands(r, True)
    o = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=ATTENTION["grouped"])
    d_o = torch.randn(r["rows"], r["tokens"], r["heads"], r["head_dim"], device=DEVICE, dtype=o.dtype).transpose(1, 2)
    return lambda: torch.autograd.grad(o, (q, k, v), d_o, retain_graph=True), nothing, lambda: dict(ATTENTION), 0


def distillation_loss(student, teacher, ids, dtype):
    logits, states = student(ids, dtype)
    with torch.no_grad():
        target, target_states = teacher(ids, dtype)
    log_s, log_t = F.log_softmax(logits.float(), -1), F.log_softmax(target.float(), -1)
    kl = (log_s.exp() * (log_s - log_t)).sum(-1).mean()
    hard = F.nll_loss(log_s.flatten(0, 1), target.argmax(-1).flatten())
    hidden = sum(F.mse_loss(s.float(), t.float()) for s, t in zip(states, target_states)) / len(states)
    return 0.25 * hidden + 0.25 * kl + 0.5 * hard


def compiled_for_any_backend(function, attempt, autocast):
    """The compiled function, and the first backend of attention on which its forward and backward pass run."""
    backends = list(dict.fromkeys([ATTENTION["backend"], "flash", "default"]))
    for backend in backends:
        use_attention(backend)
        compiled = torch.compile(function)
        try:
            with autocast:
                attempt(compiled)
            return compiled, backend
        except RuntimeError as error:
            print(f"compiled step, attention on {backend}: {error}", file=sys.stderr)
            torch._dynamo.reset()
            if backend == backends[-1]:
                raise


def step_case(r):
    m, dtype, distill = r["model"], dtype_of(r), r.get("distill", False)
    use_attention("default" if distill else ATTENTION["backend"])
    kind, name = Llama, "plain"
    if distill and r.get("transformers", True):
        try:
            import transformers
            kind, name = Transformers, "transformers " + transformers.__version__
        except ImportError:
            pass
    student = make_model(kind, m, r["tokens"])
    teacher = make_model(kind, m, r["tokens"], dtype).requires_grad_(False).eval() if distill else None
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
    ids = torch.randint(m["vocab"], (r["rows"], r["tokens"]), device=DEVICE)
    labels = torch.randint(m["vocab"], (r["rows"] * r["tokens"],), device=DEVICE)
    autocast = torch.autocast(DEVICE.type, torch.bfloat16, enabled=dtype == torch.bfloat16)
    last = {}

    def plain_loss(ids, labels):
        logits, _ = student(ids, dtype)
        return F.cross_entropy(logits.flatten(0, 1).float(), labels)

    def work():
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            loss = loss_of(ids, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        last["loss"] = loss.detach()

    if distill:
        loss_of = lambda ids, labels: distillation_loss(student, teacher, ids, dtype)
        backend = "default"
    else:
        loss_of, backend = compiled_for_any_backend(plain_loss, lambda compiled: compiled(ids, labels).backward(), autocast)

    def report():
        count = sum(p.numel() for p in student.parameters())
        return {"loss": float(last["loss"]), "model": name, "parameters": count, "backend": backend}

    return work, nothing, report, 0


def decode_case(r):
    use_attention("default")
    m, dtype, capacity = r["model"], dtype_of(r), r["context"] + r["steps"]
    model = make_model(Llama, m, capacity, dtype).requires_grad_(False)
    shape = (r["batch"], m["kv_heads"], capacity, m["head_dim"])
    caches = [tuple(torch.randn(shape, device=DEVICE, dtype=dtype) for _ in range(2)) for _ in range(m["layers"])]
    columns = torch.arange(capacity, device=DEVICE)
    ids = torch.randint(m["vocab"], (r["batch"], 1), device=DEVICE)
    position = torch.zeros(1, dtype=torch.long, device=DEVICE)

    def next_token(ids, position):
        mask = (columns[None, None, None, :] <= position).expand(r["batch"], 1, 1, capacity)
        return model.decode(ids, position, caches, mask).argmax(-1)

    def stepper(grouped, options):
        ATTENTION["grouped"] = grouped
        compiled = torch.compile(next_token, options=options)

        def step():
            ids.copy_(compiled(ids, position))
            position.add_(1)

        for _ in range(3):
            step()
        if DEVICE.type != "cuda":
            return step
        wait()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph.replay

    def before():
        position.fill_(r["context"])

    def work(step):
        step()
        ids.tolist()  # generation looks at every token

    # The faster of two: products as they come; products of one row as sums, tuned, on repeated heads (as gpt-fast does).
    best, grouped, start = {"seconds": math.inf}, ATTENTION["grouped"], time.perf_counter()
    with torch.no_grad():
        for name, heads_grouped, options in (("default", True, {}), ("tuned", False, {"coordinate_descent_tuning": True})):
            if time.perf_counter() - start > 60:
                break
            try:
                before()
                torch._dynamo.reset()
                step = stepper(heads_grouped, options)
                before()
                begin = time.perf_counter()
                for _ in range(r["steps"]):
                    work(step)
                seconds = time.perf_counter() - begin
                if seconds < best["seconds"]:
                    best = {"seconds": seconds, "variant": name, "step": step}
            except RuntimeError as error:
                print(f"decode, {name}: {error}", file=sys.stderr)
    ATTENTION["grouped"] = grouped
    if "step" not in best:
        raise RuntimeError("no variant of the decode step ran; see the log")

    def report():
        return {"parameters": sum(p.numel() for p in model.parameters()), "variant": best["variant"]}

    return lambda: work(best["step"]), before, report, r["steps"]


CASES = {"copy": copy_case, "matmul": matmul_case, "attention_forward": attention_forward_case,
         "attention_backward": attention_backward_case, "step": step_case, "decode": decode_case}

# ---- the server ------------------------------------------------------------------------------------------------------


def prepare(r):
    start = time.perf_counter()
    work, before, report, iterations = CASES[r["case"]](r)
    before()
    for _ in range(min(3, iterations or 3)):
        work()
    wait()
    if not iterations:
        begin = time.perf_counter()
        work()
        wait()
        iterations = max(1, min(2000, int(r.get("seconds", 0.1) / (time.perf_counter() - begin))))
    return work, before, report, iterations, time.perf_counter() - start


def sample(r, prepared):
    work, before, report, iterations, setup = prepared
    before()
    if r.get("trim"):  # the last sample gave its memory back: it is taken again before the clock starts
        work()
    wait()
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    for _ in range(iterations):
        work()
    launched = time.perf_counter() - start
    wait()
    seconds = time.perf_counter() - start
    answer = {"case": r["case"], "seconds": seconds / iterations, "launch_seconds": launched / iterations,
              "iterations": iterations, "setup_seconds": setup, **report()}
    if DEVICE.type == "cuda":
        answer["peak_bytes"] = torch.cuda.max_memory_allocated()
    if not math.isfinite(answer.get("loss", 0.0)):
        raise ValueError("the loss is not finite")
    return answer


def release(prepared):
    prepared.clear()
    torch._dynamo.reset()
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
    return {"case": "release"}


def main():
    global DEVICE
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    DEVICE = torch.device(parser.parse_args().device)
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    choose_attention()
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu"
    print(json.dumps(dict(ready=True, engine="torch", version=torch.__version__, device=name, **ATTENTION)), flush=True)
    prepared = {}
    for line in sys.stdin:
        try:
            r = json.loads(line)
            key = json.dumps({name: value for name, value in r.items() if name not in ("seconds", "trim")}, sort_keys=True)
            if r["case"] == "release":
                answer = release(prepared)
            elif r["case"] not in CASES:
                answer = {"error": f"case {r['case']} has no peer"}
            else:
                if key not in prepared:
                    prepared[key] = prepare(r)
                answer = sample(r, prepared[key])
            if r.get("trim") and DEVICE.type == "cuda":
                torch.cuda.empty_cache()
        except Exception as error:  # reported to whoever asked: one case does not end the run
            answer = {"error": f"{type(error).__name__}: {error}"[:2000]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
