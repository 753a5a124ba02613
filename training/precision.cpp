#include "training/precision.h"

namespace echo {

DType compute_dtype_of(const TrainConfig& config) {
  switch (config.compute_dtype) {
    case settings::ComputeType::float32:
      return DType::f32;
    case settings::ComputeType::bfloat16:
      return DType::bf16;
    case settings::ComputeType::float64:
      return DType::f64;
  }
  return DType::f32;
}

DType teacher_dtype_of(const TrainConfig& config, DType stored) {
  if (compute_dtype_of(config) == DType::f64) return DType::f64;  // a check in f64 needs its teacher in f64
  switch (config.teacher.dtype) {
    case settings::StorageType::automatic:
      return stored;
    case settings::StorageType::float32:
      return DType::f32;
    case settings::StorageType::bfloat16:
      return DType::bf16;
    case settings::StorageType::float64:
      return DType::f64;
  }
  return stored;
}

}  // namespace echo
