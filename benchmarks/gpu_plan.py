"""Which cases benchmarks/compare_gpu.py measures at which sizes, as requests to its servers. An entry is (key of the samples,
server, request)."""
import gpu_models as models


class Plan:
    def __init__(self, tiny=False, quick=False):
        """tiny: every case at toy sizes. quick: a subset."""
        self.tiny, self.quick = tiny, quick
        self.model = models.TOY if tiny else models.TINYLLAMA
        self.maps = models.TOY_MAPS if tiny else models.MAPS
        self.dtype = "f32" if tiny else "bf16"
        self.item = 4 if tiny else 2                        # bytes of an activation
        self.rows, self.length = (2, 32) if tiny else (8, 2048)  # of a training step
        self.tokens = self.rows * self.length
        self.copy_bytes, self.matmul_side = (1 << 20, 64) if tiny else (4 << 30, 8192)
        self.elementwise_tokens, self.loss_tokens = (64, 8) if tiny else (65536, 4096)
        self.parameters = models.matrix_parameters(self.model) + self.model["vocab"] * self.model["hidden"]
        self.attention_lengths = [32, 64] if tiny else [2048] if quick else [512, 1024, 2048, 4096, 8192]
        self.block_lengths = [t for t in self.attention_lengths if t in (64, 2048, 8192)]

    def case(self, name, seconds=0.1, **fields):
        return {"case": name, "seconds": 0.002 if self.tiny else seconds, "dtype": self.dtype, **fields}

    # ---- kernels -----------------------------------------------------------------------------------------------------

    def matmul(self):
        return self.case("matmul", m=self.matmul_side, n=self.matmul_side, k=self.matmul_side)

    def ceilings(self):
        copy = self.case("copy", bytes=self.copy_bytes)
        return [("copy", "ours", copy), ("copy, PyTorch", "peer", copy),
                ("matmul", "ours", self.matmul()), ("matmul, PyTorch", "peer", self.matmul())]

    def elementwise(self):
        names = ("hidden", "mlp", "vocab", "heads", "kv_heads", "head_dim")
        sizes = dict(tokens=self.elementwise_tokens, loss_tokens=self.loss_tokens, sequence=32 if self.tiny else 2048,
                     **{name: self.model[name] for name in names})
        entries = [(kernel, "ours", self.case("elementwise", kernel=kernel, **sizes)) for kernel in models.ELEMENTWISE]
        parameters = dict(parameters=self.parameters, spans=4 if self.tiny else 88)
        return entries + [(name, "ours", self.case(name, **parameters)) for name in ("adamw", "gradient_norm")]

    def attention(self, with_mma):
        """Our case, the peer's if it has one, and with_mma ours with the kernels for GPUs before Hopper."""
        heads = {name: self.model[name] for name in ("heads", "kv_heads", "head_dim")}
        ours, peer, mma = [], [], []
        for t in self.attention_lengths:
            shape = dict(rows=max(1, self.tokens // t), tokens=t, **heads)
            for direction in ("forward", "backward"):
                request = self.case("attention_" + direction, seconds=0.05, **shape)
                ours.append((f"attention {direction} {t}", "ours", request))
                peer.append((f"attention {direction} {t}, PyTorch", "peer", request))
            if t in self.block_lengths:
                ours.append((f"follower forward {t}", "ours", self.case("follower_forward", seconds=0.05, **shape)))
                block = self.case("attention_backward", seconds=0.05, layers=models.BLOCK_LAYERS, **shape)
                ours.append((f"block backward {t}", "ours", block))
        if with_mma:
            ours = [(key, server, {**request, "sketch": True}) for key, server, request in ours]
            mma = [(key + ", mma.sync", "mma", request) for key, _, request in ours]
        beside = {entry[0].removesuffix(", PyTorch").removesuffix(", mma.sync"): [] for entry in ours}
        for entry in ours + peer + mma:
            beside[entry[0].removesuffix(", PyTorch").removesuffix(", mma.sync")].append(entry)
        return [entry for entries in beside.values() for entry in entries]

    def products(self):
        head = dict(tokens=self.tokens, hidden=self.model["hidden"], vocab=self.model["vocab"])
        entries = [("matmul, beside the head", "ours", self.matmul()), ("head", "ours", self.case("head", **head)),
                   ("head, true labels", "ours", self.case("head", teacher=False, **head))]
        for name, (rows, columns, inner, ta, tb, output) in models.layer_products(self.model, self.tokens).items():
            product = dict(m=rows, n=columns, k=inner, transpose_a=ta, transpose_b=tb, output=output)
            entries.append(("product " + name, "ours", self.case("matmul", seconds=0.03, **product)))
        return entries

    # ---- models ------------------------------------------------------------------------------------------------------

    def step(self, followers, seconds=0.6, rows=None, **fields):
        return self.case("step", seconds=seconds, model=self.model, rows=rows or self.rows, tokens=self.length,
                         leaders=self.maps[followers], **fields)

    def rows_to_try(self):
        """Rows of a step in the comparison with PyTorch, which may not have enough memory for all."""
        rows = self.rows
        while rows >= 1:
            yield rows
            rows //= 2

    def decode(self, many, followers=0):
        batch, context = ((2, 32) if self.tiny else (64, 2048)) if many else (1, 32 if self.tiny else 512)
        return self.case("decode", model=self.model, batch=batch, context=context, steps=4 if self.tiny else 64,
                         leaders=self.maps[followers])
