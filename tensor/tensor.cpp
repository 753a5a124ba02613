#include "tensor/tensor.h"

#include <algorithm>
#include <cstring>

#include "tensor/allocator.h"
#include "tensor/cuda_memory.h"

namespace echo {

class Storage {
 public:
  Storage(int64_t bytes, Device device) : device_(device) {
    if (device.is_cpu()) {
      const CpuAllocator::Block block = CpuAllocator::instance().allocate(bytes);
      address_ = block.address;
      allocated_bytes_ = block.bytes;
      label_ = block.label;
    } else if constexpr (kWithCuda) {
      const cuda::Block block = cuda::allocate(bytes, device.index);
      address_ = block.address;
      allocated_bytes_ = block.bytes;
      label_ = block.label;
    } else {
      ECHO_CHECK(false, "tensor: no memory can be allocated on ", device, ": this program is built without CUDA");
    }
  }
  ~Storage() {
    if (address_ == nullptr) return;
    if (device_.is_cpu()) {
      CpuAllocator::instance().free({address_, allocated_bytes_, label_});
    } else {
      if constexpr (kWithCuda) cuda::free({address_, allocated_bytes_, label_});
    }
  }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  std::byte* address() const { return static_cast<std::byte*>(address_); }
  Device device() const { return device_; }

 private:
  Device device_;
  void* address_ = nullptr;
  int64_t allocated_bytes_ = 0;
  int label_ = 0;
};

namespace {

std::array<int64_t, Shape::kMaxRank> row_major(const Shape& shape) {
  std::array<int64_t, Shape::kMaxRank> strides{};
  int64_t next = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[size_t(i)] = next;
    next *= shape[i];
  }
  return strides;
}

// Bytes and offsets are int64. Throws when the size does not fit.
void check_size(const Shape& shape, DType dtype) {
  int64_t bytes = size_of(dtype);
  for (const int64_t extent : shape.extents()) {
    ECHO_CHECK(!__builtin_mul_overflow(bytes, std::max<int64_t>(1, extent), &bytes), "tensor: the size of ", dtype, " ", shape,
               " overflows");
  }
}

// Copies a strided block recursively, one dimension per level. A contiguous last dimension is copied with one memcpy.
void copy_strided(std::byte* to, const int64_t* to_strides, const std::byte* from, const int64_t* from_strides,
                  std::span<const int64_t> extents, int64_t item) {
  if (extents.empty()) {
    std::memcpy(to, from, size_t(item));
    return;
  }
  if (extents.size() == 1 && to_strides[0] == 1 && from_strides[0] == 1) {
    std::memcpy(to, from, size_t(extents[0] * item));
    return;
  }
  for (int64_t i = 0; i < extents[0]; ++i)
    copy_strided(to + i * to_strides[0] * item, to_strides + 1, from + i * from_strides[0] * item, from_strides + 1,
                 extents.subspan(1), item);
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  check_size(shape, dtype);
  Tensor result;
  result.shape_ = shape;
  result.strides_ = row_major(shape);
  result.dtype_ = dtype;
  result.storage_ = std::make_shared<Storage>(result.bytes(), device);
  return result;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) {
  Tensor result = empty(shape, dtype, device);
  result.fill_zero();
  return result;
}

Tensor Tensor::full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor result = empty(shape, dtype);
  dispatch_float(dtype, [&]<class T>() {
    T* data = result.data<T>();
    std::fill(data, data + result.elements(), T(static_cast<accumulator<T>>(value)));
  });
  return result.to(device);
}

Device Tensor::device() const { return defined() ? storage_->device() : Device{}; }

void* Tensor::raw_data() const {
  ECHO_CHECK(defined(), "tensor: an undefined tensor was accessed");
  return storage_->address() + offset_ * size_of(dtype_);
}

bool Tensor::is_contiguous() const {
  if (elements() == 0) return true;
  int64_t next = 1;
  for (int i = rank() - 1; i >= 0; --i) {
    if (shape_[i] != 1 && strides_[size_t(i)] != next) return false;
    next *= shape_[i];
  }
  return true;
}

Tensor Tensor::reshape(const Shape& shape) const {
  ECHO_CHECK(shape.elements() == elements(), "reshape: ", shape_, " has ", elements(), " elements, ", shape, " has ",
             shape.elements());
  ECHO_CHECK(is_contiguous(), "reshape: tensor ", shape_, " is not contiguous");
  Tensor result = *this;
  result.shape_ = shape;
  result.strides_ = row_major(shape);
  return result;
}

Tensor Tensor::narrow(int dimension, int64_t start, int64_t length) const {
  const int i = shape_.index(dimension);
  ECHO_CHECK(start >= 0 && length >= 0 && start <= shape_[i] - length, "narrow: ", length, " from ", start, " of dimension ", i,
             " of ", shape_);
  Tensor result = *this;
  result.shape_[i] = length;
  result.offset_ += start * strides_[size_t(i)];
  return result;
}

Tensor Tensor::select(int dimension, int64_t index) const {
  const int i = shape_.index(dimension);
  Tensor result = narrow(i, index, 1);
  Shape shape;
  std::array<int64_t, Shape::kMaxRank> strides{};
  for (int j = 0; j < rank(); ++j) {
    if (j == i) continue;
    strides[size_t(shape.rank())] = strides_[size_t(j)];
    shape.push_back(shape_[j]);
  }
  result.shape_ = shape;
  result.strides_ = strides;
  return result;
}

Tensor Tensor::transpose(int first, int second) const {
  const int i = shape_.index(first), j = shape_.index(second);
  Tensor result = *this;
  std::swap(result.shape_[i], result.shape_[j]);
  std::swap(result.strides_[size_t(i)], result.strides_[size_t(j)]);
  return result;
}

Tensor Tensor::contiguous() const { return is_contiguous() ? *this : clone(); }

Tensor Tensor::clone() const {
  Tensor result = empty(shape_, dtype_, device());
  result.copy_from(*this);
  return result;
}

Tensor Tensor::to(Device device) const {
  if (!defined() || this->device() == device) return *this;
  Tensor result = empty(shape_, dtype_, device);
  result.copy_from(*this);
  return result;
}

void Tensor::copy_from(const Tensor& source) {
  ECHO_CHECK(source.shape_ == shape_ && source.dtype_ == dtype_, "copy: ", source, " into ", *this);
  if (elements() == 0) return;
  const bool is_plain = is_contiguous() && source.is_contiguous();
  if (device().is_cpu() && source.device().is_cpu()) {
    if (is_plain)
      std::memcpy(raw_data(), source.raw_data(), size_t(bytes()));
    else
      copy_strided(static_cast<std::byte*>(raw_data()), strides_.data(), static_cast<const std::byte*>(source.raw_data()),
                   source.strides_.data(), shape_.extents(), size_of(dtype_));
    return;
  }
  if constexpr (kWithCuda) {
    if (device() == source.device()) {
      if (is_plain)
        cuda::copy_on_device(raw_data(), source.raw_data(), bytes());
      else
        cuda::copy_strided(raw_data(), strides_.data(), source.raw_data(), source.strides_.data(), shape_.extents(),
                           size_of(dtype_));
      return;
    }
    // Between devices, data moves as one contiguous block. Each device packs or unpacks its own strides.
    if (!is_contiguous()) return copy_from(source.to(device()));
    const Tensor packed = source.contiguous();
    if (device().is_cpu())
      cuda::copy_to_host(raw_data(), packed.raw_data(), bytes());
    else
      cuda::copy_to_device(raw_data(), packed.raw_data(), bytes());
  }
}

void Tensor::fill_zero() {
  ECHO_CHECK(is_contiguous(), "fill_zero: tensor ", shape_, " is not contiguous");
  if (device().is_cpu()) {
    std::memset(raw_data(), 0, size_t(bytes()));
  } else {
    if constexpr (kWithCuda) cuda::fill_zero(raw_data(), bytes());
  }
}

double Tensor::item() const {
  ECHO_CHECK(elements() == 1, "item: tensor ", shape_, " has ", elements(), " elements, expected 1");
  if (!device().is_cpu()) return to(Device{}).item();
  switch (dtype_) {
    case DType::f32:
      return double(*data<float>());
    case DType::bf16:
      return double(float(*data<bfloat16>()));
    case DType::f64:
      return *data<double>();
    case DType::i32:
      return double(*data<int32_t>());
    case DType::i64:
      return double(*data<int64_t>());
    case DType::u16:
      return double(*data<uint16_t>());
  }
  return 0;
}

std::ostream& operator<<(std::ostream& out, const Tensor& tensor) {
  if (!tensor.defined()) return out << "undefined tensor";
  return out << tensor.dtype() << ' ' << tensor.shape();
}

}  // namespace echo
