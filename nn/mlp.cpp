#include "nn/mlp.h"

#include "autograd/ops.h"
#include "nn/weight_names.h"

namespace echo {

Mlp::Mlp(const LlamaConfig& config, int64_t layer, const WeightOptions& options) {
  gate_up_ = add_parameter({{layer_weight(layer, "mlp.gate_proj"), config.intermediate_size},
                            {layer_weight(layer, "mlp.up_proj"), config.intermediate_size}},
                           config.hidden_size, options);
  down_ = add_parameter({{layer_weight(layer, "mlp.down_proj"), config.hidden_size}}, config.intermediate_size, options);
}

Variable Mlp::forward(const Variable& x) const { return linear(swiglu(linear(x, gate_up_)), down_); }

}  // namespace echo
