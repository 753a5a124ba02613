#include "data/batch_tensors.h"

namespace echo {

BatchTensors to_tensors(const Batch& batch, Device device) {
  const Shape shape{batch.rows, batch.sequence_length};
  return {Tensor::from(batch.inputs, shape).to(device), Tensor::from(batch.labels).to(device),
          batch.first_key.empty() ? Tensor() : Tensor::from(batch.first_key, shape).to(device)};
}

}  // namespace echo
