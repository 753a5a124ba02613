#include <gtest/gtest.h>

#include <numeric>

#include "tensor/allocator.h"
#include "tensor/tensor.h"

namespace echo {
namespace {

constexpr Device kCuda{DeviceKind::cuda, 0};

Tensor counting(const Shape& shape) {
  std::vector<float> values(size_t(shape.elements()));
  std::iota(values.begin(), values.end(), 0.0f);
  return Tensor::from(values, shape);
}

TEST(CudaTensorTest, GoesThereAndComesBack) {
  const Tensor here = counting({3, 5, 7});
  const Tensor there = here.to(kCuda);
  EXPECT_EQ(there.device(), kCuda);
  EXPECT_EQ(there.to_vector<float>(), here.to_vector<float>());
  EXPECT_EQ(there.to(kCuda).raw_data(), there.raw_data());  // already there
}

// 12 MB are copied in pieces, through each page-locked slot more than once.
TEST(CudaTensorTest, WhatIsCopiedToTheDeviceMayChangeAtOnce) {
  for (const int64_t columns : {5, 1'000'001}) {
    Tensor here = counting({3, columns});
    const std::vector<float> expected = here.to_vector<float>();
    const Tensor there = here.to(kCuda);
    here.fill_zero();
    EXPECT_EQ(there.to_vector<float>(), expected);
  }
}

TEST(CudaTensorTest, ViewsAreCopiedByTheirStrides) {
  const Tensor here = counting({4, 6, 5});
  const Tensor view = here.transpose(0, 2).narrow(1, 1, 3), there = here.to(kCuda).transpose(0, 2).narrow(1, 1, 3);
  EXPECT_EQ(there.to_vector<float>(), view.to_vector<float>());
  Tensor target = counting({4, 6, 5}).to(kCuda);
  Tensor part = target.narrow(2, 1, 2);
  part.copy_from(here.narrow(2, 3, 2));  // a view on the CPU into a view on the GPU
  const std::vector<float> result = target.to_vector<float>();
  EXPECT_EQ(result[1], 3.0f);
  EXPECT_EQ(result[2], 4.0f);
  EXPECT_EQ(result[3], 3.0f);
  Tensor back = counting({4, 2, 6});
  Tensor back_view = back.transpose(1, 2);
  back_view.copy_from(here.to(kCuda).narrow(2, 3, 2));  // and the other way
  EXPECT_EQ(back.to_vector<float>()[1], 8.0f);
}

TEST(CudaTensorTest, ZerosFullAndItem) {
  EXPECT_EQ(Tensor::zeros({3}, DType::f32, kCuda).to_vector<float>(), std::vector<float>(3, 0.0f));
  EXPECT_EQ(Tensor::full({1}, 2.5, DType::bf16, kCuda).item(), 2.5);
}

TEST(CudaTensorTest, MemoryIsCountedByLabel) {
  reset_memory_peak(kCuda);
  const int64_t before = memory_statistics(kCuda).in_use;
  {
    const MemoryLabel label("a test");
    const Tensor held = Tensor::empty({1000}, DType::f32, kCuda);
    EXPECT_EQ(memory_statistics(kCuda).in_use, before + 4000);
    bool found = false;
    for (const auto& holder : memory_statistics(kCuda).holders) found |= holder.label == "a test" && holder.in_use == 4000;
    EXPECT_TRUE(found);
  }
  EXPECT_EQ(memory_statistics(kCuda).in_use, before);
  EXPECT_EQ(memory_statistics(kCuda).peak, before + 4000);
}

TEST(CudaTensorTest, MemoryInUseStaysWhereWhatIsCachedIsGivenBack) {
  const Tensor held = Tensor::full({1000}, 3, DType::f32, kCuda);
  { const Tensor passing = Tensor::full({5000}, 4, DType::f32, kCuda); }
  const int64_t cached = memory_statistics(kCuda).cached;
  release_cached_memory(kCuda);
  EXPECT_LE(memory_statistics(kCuda).cached, cached);  // not 0, because a piece that is partly in use stays whole
  EXPECT_EQ(held.to_vector<float>(), std::vector<float>(1000, 3.0f));
}

TEST(CudaTensorTest, TooMuchSaysHowMuch) {
  try {
    (void)Tensor::empty({int64_t{1} << 44}, DType::f32, kCuda);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::device);
    EXPECT_NE(std::string(error.what()).find("requested 67108864 MiB"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("free"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace echo
