"""PyTorch's models for benchmarks/peer_torch_gpu.py: a Llama written for speed (fused projections, residual stream in the
computing dtype) and transformers' Llama, with one interface, and the choice of the attention that both use."""
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

ATTENTION = {"backend": "default", "grouped": True}


def attend(q, k, v, causal=True, mask=None):
    """(B, H, T, Dh) with Hkv heads of keys and values."""
    if not ATTENTION["grouped"]:
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=ATTENTION["grouped"])


def use_attention(backend):
    torch.backends.cuda.enable_cudnn_sdp(backend in ("cudnn", "default"))
    torch.backends.cuda.enable_flash_sdp(backend in ("flash", "default"))
    torch.backends.cuda.enable_mem_efficient_sdp(backend == "default")
    torch.backends.cuda.enable_math_sdp(backend == "default")


def choose_attention(device):
    """Tries cuDNN with grouped heads, then with repeated keys and values, then the flash kernel, then any backend."""
    if device.type != "cuda":
        return
    for backend, grouped in (("cudnn", True), ("cudnn", False), ("flash", True), ("flash", False), ("default", True)):
        ATTENTION.update(backend=backend, grouped=grouped)
        use_attention(backend)
        try:
            q = torch.randn(1, 128, 8, 64, device=device, dtype=torch.bfloat16, requires_grad=True)
            kv = torch.randn(1, 128, 2, 64, device=device, dtype=torch.bfloat16, requires_grad=True)
            o = attend(*(x.transpose(1, 2) for x in (q, kv, kv)))
            o.backward(torch.randn_like(o))
            torch.cuda.synchronize()
            return
        except RuntimeError as error:
            print(f"attention on {backend}, grouped {grouped}: {error}".splitlines()[0], file=sys.stderr)


def first_backend_that_runs(attempt):
    """Calls attempt() with the chosen backend of attention, or else with the next ones, and returns the backend's name. Out of
    memory is not retried, because the other backends would fail too."""
    backends = list(dict.fromkeys([ATTENTION["backend"], "flash", "default"]))
    for backend in backends:
        use_attention(backend)
        try:
            attempt()
            return backend
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or backend == backends[-1]:
                raise
            print(f"attention on {backend}: {error}", file=sys.stderr)
            torch._dynamo.reset()


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


def attend_cached(q, k, v, cache, position, mask):
    """One new position, of a static cache (keys, values), each (B, Hkv, S, Dh)."""
    cache[0].index_copy_(2, position, k)
    cache[1].index_copy_(2, position, v)
    return attend(q, cache[0], cache[1], causal=False, mask=mask)


class Layer(nn.Module):
    """Projections of the same input are one matrix, as in our model."""

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
        o = attend(q, k, v) if cache is None else attend_cached(q, k, v, cache, position, mask)
        x = x + self.o(o.transpose(1, 2).reshape(batch, tokens, -1))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Llama(nn.Module):
    name = "a module with fused projections"

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

    def forward(self, ids, dtype, with_states=False):
        """Logits, and the layers' outputs if requested."""
        x = self.embed(ids).to(dtype)
        cosine, sine = self.cosine[: ids.shape[1]].to(dtype), self.sine[: ids.shape[1]].to(dtype)
        states = []
        for layer in self.layers:
            x = layer(x, cosine, sine)
            if with_states:
                states.append(x)
        return self.head(self.norm(x)), states

    def decode(self, ids, position, caches, mask):
        x = self.embed(ids)
        cosine, sine = self.cosine[position].to(x.dtype), self.sine[position].to(x.dtype)
        for layer, cache in zip(self.layers, caches):
            x = layer(x, cosine, sine, cache, position, mask)
        return self.head(self.norm(x))


def transformers_attention(module, q, k, v, attention_mask, static_cache=None, **unused):
    """The attention function for transformers' layers. With transformers' own function a compiled model makes a mask (before
    PyTorch 2.14), and then neither cuDNN nor the flash kernel skips the masked part."""
    if static_cache is None:
        o = attend(q, k, v)
    else:
        caches, position, mask = static_cache
        o = attend_cached(q, k, v, caches[module.layer_idx], position, mask)
    return o.transpose(1, 2).contiguous(), None


class Transformers(nn.Module):
    """transformers' Llama with the interface of the one above."""

    def __init__(self, m, positions):
        super().__init__()
        import transformers
        self.name = "transformers " + transformers.__version__
        transformers.AttentionInterface.register("benchmark", transformers_attention)
        self.model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
            vocab_size=m["vocab"], hidden_size=m["hidden"], intermediate_size=m["mlp"], num_hidden_layers=m["layers"],
            num_attention_heads=m["heads"], num_key_value_heads=m["kv_heads"], head_dim=m["head_dim"],
            max_position_embeddings=positions, rms_norm_eps=1e-5, attn_implementation="benchmark", use_cache=False))

    def forward(self, ids, dtype, with_states=False):
        out = self.model(input_ids=ids, output_hidden_states=with_states, use_cache=False)
        return out.logits, list(out.hidden_states[1:]) if with_states else []

    def decode(self, ids, position, caches, mask):
        return self.model(input_ids=ids, position_ids=position[None], use_cache=False,
                          static_cache=(caches, position, mask)).logits


def make_model(kind, m, positions, device, dtype=torch.float32):
    with torch.device(device):
        model = kind(m, positions)
        with torch.no_grad():
            for p in model.parameters():
                if p.dim() == 2:
                    p.normal_(std=0.02)
    return model.to(dtype)
