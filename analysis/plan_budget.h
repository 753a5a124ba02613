#pragma once

#include <cstdint>
#include <optional>

namespace echo {

// The sizes of a model's attention, equal in every layer.
struct AttentionShape {
  int64_t hidden = 0;    // D
  int64_t heads = 0;     // H
  int64_t kv_heads = 0;  // Hkv
  int64_t head_dim = 0;  // Dh
  bool operator==(const AttentionShape&) const = default;
};

// What one follower does without.
//
// Parameters: its query and key projections, (H + Hkv) Dh D.
int64_t parameters_per_follower(const AttentionShape& shape);

// Floating-point operations per token of a forward pass over T tokens, a multiplication and an addition counted as two:
//   2 (H + Hkv) Dh D   query and key projections
//   3 (H + Hkv) Dh     rotation of queries and keys: 4 multiplications and 2 additions per pair of values
//   H Dh (T + 1)       scores: 2 Dh per head and visible key; a token sees (T + 1) / 2 keys on average under the causal mask
// The exponentials are left out. The scores are saved where the leader's probabilities are kept (decoding, a stored matrix);
// an implementation that rebuilds them tile by tile spends that part again.
double flops_per_follower(const AttentionShape& shape, int64_t tokens);

// Keys it need not cache for one sequence of T tokens: T Hkv Dh values.
double cache_bytes_per_follower(const AttentionShape& shape, int64_t tokens, int64_t bytes_per_value);

// How much a plan has to save.
struct Budget {
  enum class Unit { followers, parameters, flops, cache_bytes };
  Unit unit = Unit::followers;
  double amount = 0.0;          // at least this much, in the unit
  int64_t tokens = 2048;        // T: for flops (per token of a pass over T) and cache_bytes (of one sequence)
  int64_t bytes_per_value = 2;  // for cache_bytes; 2 is bf16
};

// The fewest followers that save at least the budget. All layers have the same shape, so every budget is a number of
// followers. Throws Error (config): an amount that is negative or not finite, more than `layers` - 1 followers
// needed, or a unit other than followers without a shape.
int64_t followers_for(const Budget& budget, int64_t layers, const std::optional<AttentionShape>& shape);

}  // namespace echo
