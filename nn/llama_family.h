#pragma once

#include "nn/model_family.h"

namespace echo {

// Llama, and Llama whose layers share attention. RoPE settings have two spellings in config.json: rope_theta with rope_scaling,
// and rope_parameters. Both are read, and must agree when both are present. Both are written, and dtype under both its names,
// so that old and new versions of transformers read an unshared model as LlamaForCausalLM.
ModelFamily llama_family();

}  // namespace echo
