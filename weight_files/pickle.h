#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "weight_files/stored_type.h"

namespace echo {

// The description of one tensor in a pickled state dict: a strided view of a storage. Extents, strides and offset (in elements)
// are not negative. Nothing else is checked yet.
struct PickledTensor {
  std::string name;
  StoredType type = StoredType::f32;
  std::string storage_key;
  int64_t storage_elements = 0;
  int64_t offset = 0;
  std::vector<int64_t> extents, strides;
};

// Reads the pickle of a state dict, protocols 2 to 4: a dict or OrderedDict from names to tensors, in its order. A pickle is a
// program for a stack machine. This machine supports only the operations that saving a state dict uses, and the globals
//   torch._utils._rebuild_tensor_v2, torch._utils._rebuild_parameter, collections.OrderedDict,
//   torch.{Double,Float,Half,BFloat16,Long,Int,Short,Char,Byte,Bool}Storage
// Each global makes a plain value. It is impossible to import, call or construct anything else. The stack, the memo, the number
// of objects and the lengths of texts are limited, and nothing recurses.
// Throws Error (bad_data) for any other global (with its name), an unknown operation, wrong arguments, exceeded limits, or an
// early end.
std::vector<PickledTensor> read_pickled_state_dict(std::span<const std::byte> pickle, std::string_view source);

// Writes the pickle (protocol 2) of a state dict with these tensors.
std::string write_pickled_state_dict(const std::vector<PickledTensor>& tensors);

}  // namespace echo
