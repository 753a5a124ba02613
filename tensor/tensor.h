#pragma once

#include <memory>
#include <vector>

#include "tensor/device.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace echo {

class Storage;  // a shared buffer, freed with the last tensor that uses it

// A strided view of shared memory: storage, offset, shape, strides (in elements) and dtype. Copying a Tensor shares the
// storage.
// clone() copies the data. A Tensor only copies and fills; all mathematics is in kernels/. A default-constructed Tensor is
// undefined: defined() is false and it has no memory. Allocations throw Error (device) when memory runs out.
class Tensor {
 public:
  Tensor() = default;

  static Tensor empty(const Shape& shape, DType dtype, Device device = {});  // uninitialised
  static Tensor zeros(const Shape& shape, DType dtype, Device device = {});
  static Tensor full(const Shape& shape, double value, DType dtype, Device device = {});  // floating dtypes only
  static Tensor empty_like(const Tensor& other) { return empty(other.shape(), other.dtype(), other.device()); }
  static Tensor zeros_like(const Tensor& other) { return zeros(other.shape(), other.dtype(), other.device()); }
  // Copies `values` into a tensor on the CPU, of one dimension unless a shape is given. T: float, double, bfloat16, int32_t,
  // int64_t, uint16_t. Throws Error when the number of values does not match the shape.
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape);
  template <class T>
  static Tensor from(const std::vector<T>& values) {
    return from(values, Shape{int64_t(values.size())});
  }

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t dim(int dimension) const { return shape_[dimension]; }
  int64_t stride(int dimension) const { return strides_[size_t(shape_.index(dimension))]; }
  int64_t elements() const { return shape_.elements(); }
  int64_t bytes() const { return elements() * size_of(dtype_); }
  DType dtype() const { return dtype_; }
  Device device() const;
  bool is_contiguous() const;
  // True when no other tensor shares the storage, so that it may be overwritten.
  bool is_sole_owner() const { return storage_.use_count() == 1; }
  bool shares_storage_with(const Tensor& other) const { return storage_ == other.storage_; }

  // Address of the first element, on the tensor's device. Throws Error when T does not match the dtype, or when the tensor is
  // undefined.
  template <class T>
  T* data() const {
    ECHO_CHECK(dtype_ == dtype_of<T>, "tensor: dtype is ", dtype_, ", accessed as ", dtype_of<T>);
    return static_cast<T*>(raw_data());
  }
  void* raw_data() const;

  // Views of the same memory. They throw Error when a dimension or a range is outside the shape.
  Tensor reshape(const Shape& shape) const;  // throws Error unless the tensor is contiguous and the number of elements is equal
  // Elements [start, start + length) of `dimension`.
  Tensor narrow(int dimension, int64_t start, int64_t length) const;
  Tensor select(int dimension, int64_t index) const;  // the index-th slice, without `dimension`
  Tensor transpose(int first, int second) const;      // exchanges two dimensions

  Tensor contiguous() const;             // this tensor, or a contiguous copy
  Tensor clone() const;                  // a contiguous copy
  Tensor to(Device device) const;        // this tensor if it is on `device`, otherwise a contiguous copy there
  void copy_from(const Tensor& source);  // throws Error unless shape and dtype are equal; any strides, any devices
  void fill_zero();                      // throws Error unless the tensor is contiguous
  // The value of a tensor with exactly one element, of any rank, dtype and device. Waits for the GPU when the tensor is there.
  // Throws Error when the tensor is undefined or has another number of elements, and while a graph records. 1740/
  double item() const;  // the one element of a one-element tensor, of any dtype
  template <class T>
  std::vector<T> to_vector() const;  // elements in row-major order; waits for the GPU when the tensor is there

 private:
  std::shared_ptr<Storage> storage_;
  Shape shape_;
  std::array<int64_t, Shape::kMaxRank> strides_{};
  int64_t offset_ = 0;
  DType dtype_ = DType::f32;
};

// "f32 (4, 128, 64)", for messages.
std::ostream& operator<<(std::ostream& out, const Tensor& tensor);

template <class T>
Tensor Tensor::from(const std::vector<T>& values, const Shape& shape) {
  ECHO_CHECK(int64_t(values.size()) == shape.elements(), "tensor: ", values.size(), " values for shape ", shape);
  Tensor result = empty(shape, dtype_of<T>);
  std::copy(values.begin(), values.end(), result.template data<T>());
  return result;
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  const Tensor source = to(Device{}).contiguous();
  const T* begin = source.template data<T>();
  return std::vector<T>(begin, begin + elements());
}

}  // namespace echo
