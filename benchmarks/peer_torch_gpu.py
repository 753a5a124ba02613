"""PyTorch's side of benchmarks/compare_gpu.py: answers the requests of benchmarks/gpu_benchmark.cpp, one line of JSON each.

    python benchmarks/peer_torch_gpu.py [--device cuda|cpu] < requests

Attention is scaled_dot_product_attention on cuDNN with grouped heads. A step is a compiled loss of a Llama ("module": "own" or
"transformers") under bf16 autocast over f32 parameters, clipping by the global norm, fused AdamW. Distillation is the loop that
people write: eager, transformers' Llama where it is installed, hidden states of all layers, KL + hard label from whole logits +
mean squared error. Generation is one compiled step over a static cache, recorded in a CUDA graph. Sizes come with the requests,
models from benchmarks/peer_torch_models.py.
"""
import argparse
import gc
import importlib.metadata
import json
import math
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

sys.dont_write_bytecode = True
from peer_torch_models import (ATTENTION, Llama, Transformers, choose_attention, first_backend_that_runs, make_model,
                               use_attention)

DEVICE = torch.device("cuda")


def wait():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def version_of(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


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
    if not ATTENTION["grouped"]:  # not timed
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
    logits, states = student(ids, dtype, with_states=True)
    with torch.no_grad():
        target, target_states = teacher(ids, dtype, with_states=True)
    log_s, log_t = F.log_softmax(logits.float(), -1), F.log_softmax(target.float(), -1)
    kl = (log_s.exp() * (log_s - log_t)).sum(-1).mean()
    hard = F.nll_loss(log_s.flatten(0, 1), target.argmax(-1).flatten())
    hidden = sum(F.mse_loss(s.float(), t.float()) for s, t in zip(states, target_states)) / len(states)
    return 0.25 * hidden + 0.25 * kl + 0.5 * hard


def step_case(r):
    m, dtype, distill = r["model"], dtype_of(r), r.get("distill", False)
    wanted = r.get("module") or ("transformers" if version_of("transformers") else "own")
    kind = Transformers if wanted == "transformers" else Llama
    student = make_model(kind, m, r["tokens"], DEVICE)
    teacher = make_model(kind, m, r["tokens"], DEVICE, dtype).requires_grad_(False).eval() if distill else None
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
    ids = torch.randint(m["vocab"], (r["rows"], r["tokens"]), device=DEVICE)
    labels = torch.randint(m["vocab"], (r["rows"] * r["tokens"],), device=DEVICE)
    autocast = torch.autocast(DEVICE.type, torch.bfloat16, enabled=dtype == torch.bfloat16)
    last, chosen = {}, {}

    def plain_loss(ids, labels):
        logits, _ = student(ids, dtype)
        return F.cross_entropy(logits.flatten(0, 1).float(), labels)

    def try_backend():
        optimizer.zero_grad(set_to_none=True)
        if distill:
            chosen["loss"] = lambda ids, labels: distillation_loss(student, teacher, ids, dtype)
        else:
            chosen["loss"] = torch.compile(plain_loss)
        with autocast:
            loss = chosen["loss"](ids, labels)
        loss.backward()

    backend = first_backend_that_runs(try_backend)

    def work():
        use_attention(backend)
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            loss = chosen["loss"](ids, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        last["loss"] = loss.detach()

    def report():
        count = sum(p.numel() for p in student.parameters())
        return {"loss": float(last["loss"]), "model": student.name, "parameters": count, "backend": backend}

    return work, nothing, report, 0


def decode_case(r):
    use_attention("default")
    m, dtype, capacity = r["model"], dtype_of(r), r["context"] + r["steps"]
    shape = (r["batch"], m["kv_heads"], capacity, m["head_dim"])
    caches = [tuple(torch.randn(shape, device=DEVICE, dtype=dtype) for _ in range(2)) for _ in range(m["layers"])]
    columns = torch.arange(capacity, device=DEVICE)
    ids = torch.randint(m["vocab"], (r["batch"], 1), device=DEVICE)
    position = torch.zeros(1, dtype=torch.long, device=DEVICE)

    def stepper(kind, grouped, options):
        ATTENTION["grouped"] = grouped
        model = make_model(kind, m, capacity, DEVICE, dtype).requires_grad_(False).eval()

        def next_token(ids, position):
            mask = (columns[None, None, None, :] <= position).expand(r["batch"], 1, 1, capacity)
            return model.decode(ids, position, caches, mask).argmax(-1)

        compiled = torch.compile(next_token, options=options)

        @torch.no_grad()
        def step():
            ids.copy_(compiled(ids, position))
            position.add_(1)

        for _ in range(3):
            step()
        if DEVICE.type != "cuda":
            return model, step, step
        wait()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return model, step, graph.replay

    def before():
        position.fill_(r["context"])

    def work(run):
        run()
        ids.tolist()  # generation reads every token

    # The fastest of three: ordinary products; products of one row as tuned sums on repeated heads (as in gpt-fast); transformers'
    # layers. No variant starts after one minute.
    variants = [("fused projections", Llama, True, {}),
                ("fused projections, tuned", Llama, False, {"coordinate_descent_tuning": True})]
    if version_of("transformers"):
        variants.append(("transformers' layers", Transformers, False, {}))  # these repeat heads when there is a mask
    best, grouped, start, times = {"seconds": math.inf}, ATTENTION["grouped"], time.perf_counter(), []
    for name, kind, heads_grouped, options in variants:
        if time.perf_counter() - start > 60:
            times.append(f"{name} not tried: no time left")
            continue
        try:
            torch._dynamo.reset()
            before()
            model, step, run = stepper(kind, heads_grouped, options)
            before()
            begin = time.perf_counter()
            for _ in range(r["steps"]):
                work(run)
            seconds = time.perf_counter() - begin
            times.append(f"{name} {seconds / r['steps'] * 1e3:.3f} ms")
            if seconds < best["seconds"]:
                # `step` owns the compiled kernels that the graph starts.
                best = {"seconds": seconds, "variant": name, "model": model, "step": step, "run": run}
        except Exception as error:  # versions of transformers raise different exceptions
            print(f"decode, {name}: {error}", file=sys.stderr)
            times.append(f"{name} failed")
        finally:
            ATTENTION["grouped"] = grouped
    if "run" not in best:
        raise RuntimeError("no variant of the decode step ran; see the log")

    def report():
        count = sum(p.numel() for p in best["model"].parameters())
        return {"parameters": count, "variant": best["variant"], "variants": "; ".join(times)}

    return lambda: work(best["run"]), before, report, r["steps"]


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


def sample(r, prepared, is_new):
    work, before, report, iterations, setup = prepared
    before()
    if r.get("trim") and not is_new:  # the last sample gave its memory back; allocate it again before the clock starts
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


def give_back_memory():
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


def release(prepared):
    prepared.clear()
    torch._dynamo.reset()
    give_back_memory()
    return {"case": "release"}


def main():
    global DEVICE
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    DEVICE = torch.device(parser.parse_args().device)
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    choose_attention(DEVICE)
    greeting = dict(ready=True, engine="torch", device="cpu", version=torch.__version__,
                    transformers=version_of("transformers"))
    if DEVICE.type == "cuda":
        gpu = torch.cuda.get_device_properties(DEVICE)
        greeting.update(device=gpu.name, memory_bytes=gpu.total_memory)
    print(json.dumps({**greeting, **ATTENTION}), flush=True)
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
                is_new = key not in prepared
                if is_new:
                    prepared[key] = prepare(r)
                answer = sample(r, prepared[key], is_new)
            if r.get("trim"):
                give_back_memory()
        except Exception as error:  # reported to the client: one case must not end the run
            answer = {"error": f"{type(error).__name__}: {error}"[:2000]}
        if "error" in answer:  # now the traceback is gone, which referred to the tensors of the case
            give_back_memory()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
