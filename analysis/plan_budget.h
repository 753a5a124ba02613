#pragma once

#include <cstdint>
#include <optional>

namespace echo {

// The sizes of a model's attention, which are equal in all layers.
struct AttentionShape {
  int64_t hidden = 0;    // D
  int64_t heads = 0;     // H
  int64_t kv_heads = 0;  // Hkv
  int64_t head_dim = 0;  // Dh
  bool operator==(const AttentionShape&) const = default;
};

// The savings of one follower.
//
// Parameters: those of its query and key projections, (H + Hkv) Dh D.
int64_t parameters_per_follower(const AttentionShape& shape);

// Floating-point operations per token of a forward pass over T tokens. A multiplication and an addition count as two:
//   2 (H + Hkv) Dh D   query and key projections
//   3 (H + Hkv) Dh     rotation of queries and keys: 4 multiplications and 2 additions per pair of values
//   H Dh (T + 1)       scores: 2 Dh per head and visible key; a token sees (T + 1) / 2 keys on average under the causal mask
// Exponentials are not counted. The scores are saved only where the leader's probabilities are stored (decoding, a stored
// matrix). An implementation that rebuilds them tile by tile computes them again.
double flops_per_follower(const AttentionShape& shape, int64_t tokens);

// Keys that it does not cache for one sequence of T tokens: T Hkv Dh values.
double cache_bytes_per_follower(const AttentionShape& shape, int64_t tokens, int64_t bytes_per_value);

// The amount that a plan must save.
struct Budget {
  enum class Unit { followers, parameters, flops, cache_bytes };
  Unit unit = Unit::followers;
  double amount = 0.0;          // at least this much, in the unit
  int64_t tokens = 2048;        // T: for flops (per token of a pass over T) and cache_bytes (of one sequence)
  int64_t bytes_per_value = 2;  // for cache_bytes; 2 is bf16
};

// The smallest number of followers that saves at least the budget. All layers have the same shape, so every budget corresponds
// to a number of followers. Throws Error (config) when the amount is negative or not finite, when more than `layers` - 1
// followers would be needed, or when the unit is not followers and there is no shape.
int64_t followers_for(const Budget& budget, int64_t layers, const std::optional<AttentionShape>& shape);

}  // namespace echo
