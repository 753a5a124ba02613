#include <cstring>
#include <limits>

#include "base/error.h"
#include "weight_files/pickle.h"
#include "weight_files/pickle_operations.h"

namespace echo {
namespace {

using namespace pickle;

class PickleText {
 public:
  std::string text;

  void operation(uint8_t code) { text += char(code); }
  void string(std::string_view value) {
    operation(kBinUnicode);
    raw(uint32_t(value.size()));
    text += value;
  }
  void integer(int64_t value) {
    if (value <= std::numeric_limits<int32_t>::max()) {
      operation(kBinInt);
      raw(int32_t(value));
    } else {
      operation(kLong1);
      operation(8);
      raw(value);
    }
  }
  void integers(const std::vector<int64_t>& values) {
    operation(kMark);
    for (const int64_t value : values) integer(value);
    operation(kTuple);
  }
  void global(std::string_view module, std::string_view name) {
    operation(kGlobal);
    ((text += module) += '\n') += name;
    text += '\n';
  }
  void ordered_dict() {
    global("collections", "OrderedDict");
    operation(kEmptyTuple);
    operation(kReduce);
  }

 private:
  template <class T>
  void raw(T value) {
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    text.append(bytes, sizeof value);
  }
};

std::string_view storage_of(StoredType type) {
  for (const auto& [stored, name] : kPickleStorages)
    if (stored == type) return name;
  ECHO_CHECK(false, "torch archive: no storage for ", type);
}

}  // namespace

std::string write_pickled_state_dict(const std::vector<PickledTensor>& tensors) {
  PickleText out;
  out.operation(kProto);
  out.operation(2);
  out.ordered_dict();
  out.operation(kMark);
  for (const PickledTensor& tensor : tensors) {
    out.string(tensor.name);
    out.global("torch._utils", "_rebuild_tensor_v2");
    out.operation(kMark);
    out.operation(kMark);
    out.string("storage");
    out.global("torch", storage_of(tensor.type));
    out.string(tensor.storage_key);
    out.string("cpu");
    out.integer(tensor.storage_elements);
    out.operation(kTuple);
    out.operation(kBinPersId);
    out.integer(tensor.offset);
    out.integers(tensor.extents);
    out.integers(tensor.strides);
    out.operation(kNewFalse);
    out.ordered_dict();
    out.operation(kTuple);
    out.operation(kReduce);
  }
  out.operation(kSetItems);
  out.operation(kStop);
  return std::move(out.text);
}

}  // namespace echo
