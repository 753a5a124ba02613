#include "weight_files/tensor_source.h"

#include <utility>

namespace echo {

std::vector<std::string> TensorSource::names() const {
  std::vector<std::string> result;
  for (const StoredTensor& tensor : tensors_) result.push_back(tensor.name);
  return result;
}

size_t TensorSource::index_of(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) fail(ExitCode::bad_data, path_.string(), ": has no tensor ", name);
  return found->second;
}

const StoredTensor& TensorSource::info(const std::string& name) const { return tensors_[index_of(name)]; }

void TensorSource::set_tensors(std::vector<StoredTensor> tensors) {
  tensors_ = std::move(tensors);
  index_.clear();
  for (size_t i = 0; i < tensors_.size(); ++i)
    if (!index_.emplace(tensors_[i].name, i).second)
      fail(ExitCode::bad_data, path_.string(), ": tensor ", tensors_[i].name, " occurs twice");
}

Tensor TensorSource::read(const std::string& name) const {
  const StoredTensor& stored = info(name);
  Tensor result = Tensor::empty(stored.shape, native_dtype(stored.type));
  read_into(name, result);
  return result;
}

void TensorSource::read_into(const std::string& name, Tensor& destination) const {
  const size_t index = index_of(name);
  const StoredTensor& stored = tensors_[index];
  ECHO_CHECK(destination.defined() && destination.is_contiguous(), "read_into: ", destination, " is not a contiguous tensor");
  if (stored.shape != destination.shape())
    fail(ExitCode::bad_data, path_.string(), ": tensor ", name, " has shape ", stored.shape, ", expected ",
         destination.shape());
  if (!destination.device().is_cpu()) {
    Tensor values = Tensor::empty(destination.shape(), destination.dtype());
    read_into(name, values);
    destination.copy_from(values);
    return;
  }
  int64_t done = 0;
  stream(index, [&](std::span<const std::byte> bytes) {
    if (!convert_elements(stored.type, bytes, destination, done))
      fail(ExitCode::bad_data, path_.string(), ": tensor ", name, " is stored as ", stored.type, " and its values do not fit ",
           destination.dtype());
    done += int64_t(bytes.size()) / size_of(stored.type);
  });
  ECHO_CHECK(done == destination.elements(), "read_into: ", done, " of ", destination.elements(), " elements of ", name);
}

Tensor provided(const TensorProvider& provider, const TensorDescription& description) {
  const Tensor tensor = provider(description);
  ECHO_CHECK(tensor.defined() && tensor.shape() == description.shape && tensor.dtype() == description.dtype, "writing tensor ",
             description.name, ": expected ", description.dtype, ' ', description.shape, ", got ", tensor);
  return tensor.to(Device{}).contiguous();
}

std::vector<TensorDescription> describe(const NamedTensors& tensors) {
  std::vector<TensorDescription> result;
  for (const auto& [name, tensor] : tensors) result.push_back({name, tensor.shape(), tensor.dtype()});
  return result;
}

TensorProvider provider_of(const NamedTensors& tensors) {
  auto index = std::make_shared<std::unordered_map<std::string, const Tensor*>>();
  for (const auto& [name, tensor] : tensors) ECHO_CHECK(index->emplace(name, &tensor).second, "two tensors are named ", name);
  return [index](const TensorDescription& description) { return *index->at(description.name); };
}

}  // namespace echo
